//! Quality control.

use std::collections::BTreeMap;

use streamz::testing::{Recorder, TestSource};
use streamz::{ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../quality_control.rs"]
mod example;

use example::{Finding, Product, control};

fn good() -> Product {
    Product { score: 1.0, defects: Vec::new() }
}

fn bad(defect: &'static str) -> Product {
    Product { score: 0.5, defects: vec![defect] }
}

fn run(products: Vec<Product>) -> Vec<Finding> {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, stream) = TestSource::with_capacity(&pipeline, products.len());
    let findings = Recorder::new(control(stream));
    source.push_all(products);
    source.end();
    let report = pipeline.join();
    assert!(report.is_complete());
    assert!(report.stages.iter().flat_map(|stage| &stage.steps).all(|step| step.balances()));
    findings.items()
}

#[test]
fn defects_are_counted_per_batch_including_the_last() {
    let mut products = vec![bad("dent"); 100];
    products.extend(vec![bad("scratch"); 30]);
    products.extend(vec![good(); 1_500]);
    let findings = run(products);
    let rejected: Vec<_> = findings
        .iter()
        .filter(|finding| matches!(finding, Finding::Rejected(..)))
        .cloned()
        .collect();
    let expected = [
        Finding::Rejected(100, 0.5, BTreeMap::from([("dent", 100)])),
        Finding::Rejected(30, 0.5, BTreeMap::from([("scratch", 30)])),
    ];
    assert_eq!(rejected, expected);
    assert_eq!(
        findings.iter().filter(|finding| **finding == Finding::Passed(100, 1.0)).count(),
        15
    );
}

#[test]
fn the_alarm_considers_only_the_last_products() {
    // 60 bad ones in the middle of 10,000 good ones: 88 % of the 500 around them.
    let mut products = vec![good(); 5_000];
    products.extend(vec![bad("burr"); 60]);
    products.extend(vec![good(); 4_940]);
    let alarms: Vec<_> = run(products)
        .into_iter()
        .filter(|finding| matches!(finding, Finding::Alarm(_)))
        .collect();
    assert_eq!(alarms, [Finding::Alarm(0.88)]);
    // At the limit there is none.
    let at_the_limit =
        std::iter::repeat_n(bad("burr"), 50).chain(std::iter::repeat_n(good(), 450)).collect();
    assert!(run(at_the_limit).iter().all(|finding| !matches!(finding, Finding::Alarm(_))));
}
