//! [`Chance`]: a random choice at a given rate, repeatable on request.

/// How often [`Dice`] return true.
#[derive(Debug, Clone)]
pub(super) struct Chance {
    rate: f64,
    seed: Option<u64>,
}

impl Chance {
    #[track_caller]
    pub(super) fn new(rate: f64) -> Self {
        // NaN is in no range, so it is refused as well.
        assert!((0.0..=1.0).contains(&rate), "`rate` must be from 0.0 to 1.0, not {rate}");
        Self { rate, seed: None }
    }

    pub(super) fn set_seed(&mut self, seed: u64) {
        self.seed = Some(seed);
    }

    /// For one run.
    pub(super) fn dice(&self) -> Dice {
        Dice { rate: self.rate, random: self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed) }
    }
}

/// A [`Chance`] in use.
#[derive(Debug)]
pub(super) struct Dice {
    rate: f64,
    random: fastrand::Rng,
}

impl Dice {
    #[inline]
    pub(super) fn says_yes(&mut self) -> bool {
        // The number is at least 0 and below 1, so the extremes are exact: never and always.
        self.random.f64() < self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extremes_are_exact_and_the_middle_is_about_right() {
        let yes = |rate| {
            let mut chance = Chance::new(rate);
            chance.set_seed(7);
            let mut dice = chance.dice();
            (0..10_000).filter(|_| dice.says_yes()).count()
        };
        assert_eq!((yes(0.0), yes(1.0)), (0, 10_000));
        // The seed is fixed, so this cannot fail by chance.
        assert!((2_300..2_700).contains(&yes(0.25)));
    }

    #[test]
    fn everything_but_a_share_is_refused() {
        for rate in [-0.1, 1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(std::panic::catch_unwind(|| Chance::new(rate)).is_err(), "{rate}");
        }
    }
}
