//! Medians, ratios and goals from the runs of a work.

use crate::run::{Run, Samples};
use crate::work::Figure;

/// The median; `None` without values, or if one of them is unknown.
pub(crate) fn median(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let mut values = values.into_iter().collect::<Option<Vec<_>>>()?;
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

impl Samples {
    pub(crate) fn median(&self, value: impl Fn(&Run) -> Option<f64>) -> Option<f64> {
        median(self.runs.iter().map(value))
    }

    /// The shortest and the longest time for an item.
    pub(crate) fn extremes(&self) -> (f64, f64) {
        let nanos = || self.runs.iter().map(|run| run.nanos);
        (nanos().fold(f64::INFINITY, f64::min), nanos().fold(0.0, f64::max))
    }

    /// The time of the slowest run divided by that of the fastest.
    pub(crate) fn spread(&self) -> f64 {
        let (min, max) = self.extremes();
        max / min
    }

    /// The median of the ratios of each round, which is steadier than the ratio of the medians.
    pub(crate) fn ratio_to(&self, reference: &Self) -> Option<f64> {
        median(self.ratios_to(reference).map(Some))
    }

    /// The ratio of each round.
    fn ratios_to(&self, reference: &Self) -> impl Iterator<Item = f64> {
        self.runs.iter().zip(&reference.runs).map(|(run, other)| run.nanos / other.nanos)
    }

    fn median_peak(&self) -> Option<f64> {
        self.median(|run| run.peak_kib.map(|kib| kib as f64))
    }
}

pub(crate) fn find<'a>(samples: &'a [Samples], system: &str) -> Option<&'a Samples> {
    samples.iter().find(|samples| samples.entry.system == system && !samples.is_before)
}

impl Figure {
    /// The figure, if the necessary systems have been run.
    pub(crate) fn of(&self, samples: &[Samples]) -> Option<f64> {
        match *self {
            Self::Ratio(system, other) => find(samples, system)?.ratio_to(find(samples, other)?),
            Self::WorstRatio(system, other) => {
                find(samples, system)?.ratios_to(find(samples, other)?).max_by(f64::total_cmp)
            }
            Self::Spread(system) => Some(find(samples, system)?.spread()),
            Self::Nanos(system) => find(samples, system)?.median(|run| Some(run.nanos)),
            Self::PeakRatio(system, other) => {
                Some(find(samples, system)?.median_peak()? / find(samples, other)?.median_peak()?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Entry;

    static ENTRIES: [Entry; 2] = [Entry::new("one", 1, 1, |_| 0.into()), Entry::new("other", 1, 1, |_| 0.into())];

    fn samples(entry: usize, nanos: [f64; 3]) -> Samples {
        let line = |nanos| {
            format!("checksum=0 ns_per_item={nanos} seconds=1 cpu_seconds=n/a peak_kib=n/a waits=n/a preempted=n/a")
        };
        let runs = nanos.iter().map(|nanos| line(nanos).parse().unwrap()).collect();
        Samples { entry: &ENTRIES[entry], is_before: false, items: 1, runs }
    }

    #[test]
    fn ratios_are_those_of_each_round() {
        let samples = [samples(0, [2.0, 6.0, 3.0]), samples(1, [1.0, 2.0, 4.0])];
        assert_eq!(Figure::Ratio("one", "other").of(&samples), Some(2.0));
        assert_eq!(Figure::WorstRatio("one", "other").of(&samples), Some(3.0));
        assert_eq!(Figure::Spread("one").of(&samples), Some(3.0));
        assert_eq!(Figure::Ratio("one", "absent").of(&samples), None);
    }

    #[test]
    fn another_build_is_no_figure() {
        let before = Samples { is_before: true, ..samples(0, [1.0, 1.0, 1.0]) };
        assert_eq!(before.name(), "one (before)");
        let samples = [before, samples(0, [2.0, 2.0, 2.0]), samples(1, [1.0, 1.0, 1.0])];
        assert_eq!(Figure::Ratio("one", "other").of(&samples), Some(2.0));
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].map(Some)), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].map(Some)), Some(2.5));
        assert_eq!(median([]), None);
        assert_eq!(median([Some(1.0), None]), None);
    }
}
