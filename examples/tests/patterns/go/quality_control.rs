use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use streamz::{Aggregate, CancelToken, Processor, Split, Stream};

use super::{after, pipeline};

#[derive(Debug, Clone)]
struct Product {
    quality_score: f64,
    defects: Vec<&'static str>,
}

#[derive(Debug)]
struct QualityReport {
    kind: &'static str,
    time: SystemTime,
    count: u32,
    pass_rate: f64,
    average_score: f64,
    defect_types: BTreeMap<&'static str, u32>,
}

static ALERTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn alert(text: String) {
    ALERTS.lock().unwrap().push(text);
}

// [pattern]
#[derive(Debug, Default)]
struct QualityStats {
    total_count: u32,
    pass_count: u32,
    fail_count: u32,
    score_sum: f64,
    defect_types: BTreeMap<&'static str, u32>,
}

fn build_quality_control_pipeline(
    cancel: &CancelToken,
    products: Stream<Product>,
) -> Stream<QualityReport> {
    let quality_splitter = Split::new(|product: &Product| product.quality_score >= 0.95)
        .with_name("quality-splitter");
    let outputs = quality_splitter.process(cancel, products);

    let high_quality_stats =
        Aggregate::new(QualityStats::default, |stats: &mut QualityStats, product: &Product| {
            stats.total_count += 1;
            stats.pass_count += 1;
            stats.score_sum += product.quality_score;
        })
        .with_count_window(100)
        .with_name("high-quality-stats");
    let defect_stats =
        Aggregate::new(QualityStats::default, |stats: &mut QualityStats, product: &Product| {
            stats.total_count += 1;
            stats.fail_count += 1;
            stats.score_sum += product.quality_score;
            product
                .defects
                .iter()
                .for_each(|defect| *stats.defect_types.entry(defect).or_default() += 1);
        })
        .with_count_window(100)
        .with_name("defect-stats");
    let high_windows = high_quality_stats.process(cancel, outputs.matched);
    let defect_windows = defect_stats.process(cancel, outputs.rest);

    // Ends with the pipeline.
    let stats = outputs.stats;
    cancel.every(Duration::from_secs(5 * 60), move || {
        if stats.total_items() > 0 && stats.matched_ratio() < 0.9 {
            alert(format!(
                "quality degradation detected: {:.1} % pass rate",
                stats.matched_ratio() * 100.0
            ));
        }
    });

    let report = |kind| {
        move |window: streamz::AggregateWindow<QualityStats>| QualityReport {
            kind,
            time: window.end,
            count: window.result.total_count,
            pass_rate: f64::from(window.result.pass_count)
                / f64::from(window.result.total_count),
            average_score: window.result.score_sum / f64::from(window.result.total_count),
            defect_types: window.result.defect_types,
        }
    };
    high_windows
        .map(report("high_quality_batch"))
        .merge([defect_windows.map(report("defect_batch"))])
}
// [/pattern]

#[test]
fn good_and_bad_products_are_summed_up_by_the_hundred() {
    let (clock, pipeline) = pipeline();
    let began = pipeline.clock().wall();
    let product = |n: u32| match n % 4 {
        0 => Product { quality_score: 0.5, defects: vec!["scratch"] },
        _ => Product { quality_score: 1.0, defects: Vec::new() },
    };
    // Slow enough for the clock to be looked at on the way.
    let products = Stream::from_iter(&pipeline, (0..1_000).map(product)).async_map(
        1,
        |cancel: &CancelToken, product: &Product| {
            cancel.sleep(Duration::from_secs(1))?;
            streamz::ok(product.clone())
        },
    );
    let reports = build_quality_control_pipeline(&pipeline, products);
    let reports = after(&clock, Duration::from_secs(1_000), reports);
    let of = |kind| reports.iter().filter(move |report| report.kind == kind);
    let counts = |kind| of(kind).map(|report| report.count).collect::<Vec<_>>();
    assert_eq!(counts("high_quality_batch"), [100, 100, 100, 100, 100, 100, 100, 50]);
    assert_eq!(counts("defect_batch"), [100, 100, 50]);
    assert!(
        of("high_quality_batch")
            .all(|report| report.pass_rate == 1.0 && report.average_score == 1.0)
    );
    for report in of("defect_batch") {
        assert_eq!((report.pass_rate, report.average_score), (0.0, 0.5));
        assert_eq!(report.defect_types, BTreeMap::from([("scratch", report.count)]));
        assert!(report.time > began);
    }
    assert_eq!(ALERTS.lock().unwrap()[0], "quality degradation detected: 75.0 % pass rate");
}
