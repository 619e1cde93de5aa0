//! Compares the speed of several ways to do the same thing.

use std::error::Error;
use std::time::Duration;

/// The result type of a program that measures.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A way to do it: its name, and a function that returns the time of one round.
pub type Way<'a> = (&'a str, &'a mut dyn FnMut(usize) -> Outcome<Duration>);

/// Runs all ways in turn, so that other load on the machine affects all of them, and prints a row for each: records per
/// second, and the ratio to the first way of the same round. Both are medians; the minimum and maximum of the ratio
/// follow.
pub fn compare<const N: usize>(records: usize, rounds: usize, mut ways: [Way<'_>; N]) -> Outcome<()> {
    let mut times = [const { Vec::new() }; N];
    for round in 0..rounds {
        for ((_, run), times) in ways.iter_mut().zip(&mut times) {
            times.push(run(round)?.as_secs_f64());
        }
    }
    for ((name, _), own) in ways.iter().zip(&times) {
        let ratios = sorted(own.iter().zip(&times[0]).map(|(own, first)| first / own));
        let rates = sorted(own.iter().map(|time| records as f64 / time));
        let (rate, ratio) = (rates[rounds / 2], ratios[rounds / 2]);
        println!("{name:<50} {rate:>10.0}  {ratio:.2}  ({:.2} to {:.2})", ratios[0], ratios[rounds - 1]);
    }
    Ok(())
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}
