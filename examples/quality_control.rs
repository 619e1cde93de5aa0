//! Quality control: good and bad products are summed up separately, and an alarm rings when too many recent ones are bad.

mod common;

use std::collections::BTreeMap;
use std::process::ExitCode;

use common::{Data, Page, bar};
use streamz::prelude::*;
use streamz::{AggregateWindow, BoxError};

/// A product of the line.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    pub score: f64,
    pub defects: Vec<&'static str>,
}

/// The sum of some products.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    pub score: f64,
    pub defects: BTreeMap<&'static str, u64>,
}

/// The output of the control.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// The number of good products, and their mean score.
    Passed(u64, f64),
    /// The number of bad products, their mean score, and their defects.
    Rejected(u64, f64, BTreeMap<&'static str, u64>),
    /// The share of good products among the last ones is too small.
    Alarm(f64),
}

// [pattern]
/// A product with at least this score is good.
const GOOD: f64 = 0.95;
/// The required share of good products, and the number of consecutive products it is computed
/// over.
const LATELY: usize = 500;
const MIN_SHARE: f64 = 0.9;

/// Sums up good and bad products by the hundred, and raises an alarm when too few are good.
pub fn control(products: Stream<Product>) -> Stream<Finding> {
    // Each window begins with new statistics.
    let by_hundreds = Aggregate::new(Stats::default, |stats: &mut Stats, product: &Product| {
        stats.score += product.score;
        product
            .defects
            .iter()
            .for_each(|defect| *stats.defects.entry(defect).or_default() += 1);
    })
    .with_count_window(100);
    let good_lately = Aggregate::new(
        || 0,
        |good, product: &Product| *good += u64::from(product.score >= GOOD),
    );

    let [products, all] = products.fan_out();
    let (good, bad) = products.split(|product| product.score >= GOOD);
    let passed = good.through(&by_hundreds).map(|w| Finding::Passed(w.count, mean(&w)));
    let rejected = bad
        .through(&by_hundreds)
        .map(|w| Finding::Rejected(w.count, mean(&w), w.result.defects));
    let alarms = all.through(&good_lately.with_count_window(LATELY)).filter_map(|w| {
        let share = w.result as f64 / w.count as f64;
        (share < MIN_SHARE).then_some(Finding::Alarm(share))
    });
    // It ends when all three have ended, so it includes the last, short windows.
    passed.merge([rejected, alarms])
}
// [/pattern]

fn mean(window: &AggregateWindow<Stats>) -> f64 {
    window.result.score / window.count as f64
}

fn main() -> ExitCode {
    common::run("Quality control: 10,000 products, and a tool that wears out", control_a_shift)
}

fn control_a_shift(page: &Page) -> Result<(), BoxError> {
    let mut data = Data::seeded(19);
    let products: Vec<Product> = (0..10_000)
        .map(|n| {
            // A tool is worn out from product 6,000 to 8,000; then it is replaced.
            let worn = (6_000..8_000).contains(&n);
            if data.chance(if worn { 0.3 } else { 0.04 }) {
                let usual = *data.pick(&["scratch", "dent", "colour"]);
                let defect = if worn && data.chance(0.8) { "burr" } else { usual };
                Product {
                    score: f64::from(data.between(50..95)) / 100.0,
                    defects: vec![defect],
                }
            } else {
                Product {
                    score: f64::from(data.between(95..=100)) / 100.0,
                    defects: Vec::new(),
                }
            }
        })
        .collect();
    let (findings, report) = Pipeline::run("quality", |pipeline| {
        control(Stream::from_iter(pipeline, products.clone())).collect::<Vec<_>>()
    });
    let findings = findings?;

    let (mut passed, mut rejected, mut alarms) = (0, 0, Vec::new());
    let mut defects: BTreeMap<&str, u64> = BTreeMap::new();
    for finding in &findings {
        match finding {
            Finding::Passed(count, _) => passed += count,
            Finding::Rejected(count, _, found) => {
                rejected += count;
                found
                    .iter()
                    .for_each(|(defect, count)| *defects.entry(defect).or_default() += count);
            }
            Finding::Alarm(share) => alarms.push(*share),
        }
    }
    page.say(format_args!("\n{passed} passed, {rejected} rejected, because of:\n"));
    let most = defects.values().copied().max().unwrap_or(0) as f64;
    page.table(
        &["defect", "products", ""],
        defects
            .iter()
            .map(|(defect, n)| [(*defect).to_owned(), n.to_string(), bar(*n as f64, most, 40)]),
    );
    let shares: Vec<String> =
        alarms.iter().map(|share| format!("{:.0}%", share * 100.0)).collect();
    page.say(format_args!(
        "\n{} alarms, at these shares of good products: {}\n",
        alarms.len(),
        shares.join(", ")
    ));

    let good = products.iter().filter(|product| product.score >= GOOD).count() as u64;
    page.check_eq(
        "every product is in one batch",
        (passed, rejected),
        (good, products.len() as u64 - good),
    );
    let in_all = products.iter().map(|product| product.defects.len() as u64).sum::<u64>();
    page.check_eq("every defect is counted once", defects.values().sum(), in_all);
    page.check_eq("the alarm rang for the worn tool, and for nothing else", alarms.len(), 4);
    let overall = good as f64 / products.len() as f64;
    page.check("although the share over the whole shift was good enough", overall >= MIN_SHARE);
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}
