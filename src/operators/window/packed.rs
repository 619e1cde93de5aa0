//! [`Packed`]: a time in twelve bytes, for what is kept a million times.

use super::time::Nanos;

/// A time up to 10^12 years from the epoch. It takes three quarters of the size of [`Nanos`], and a quarter of the alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packed([u32; 3]);

impl Packed {
    /// Before all times that come.
    pub(super) const MIN: Self = Self([0, 0, 1 << 31]);
}

impl From<Nanos> for Packed {
    #[inline]
    fn from(time: Nanos) -> Self {
        let packed = Self([time as u32, (time >> 32) as u32, (time >> 64) as u32]);
        debug_assert_eq!(Nanos::from(packed), time, "no time is that far from the epoch");
        packed
    }
}

impl From<Packed> for Nanos {
    #[inline]
    fn from(Packed([low, middle, high]): Packed) -> Self {
        (Nanos::from(high.cast_signed()) << 64) | (Nanos::from(middle) << 32) | Nanos::from(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_on_both_sides_of_the_epoch_are_kept() {
        for time in [0, 1, -1, Nanos::from(u64::MAX), -Nanos::from(u64::MAX) - 1, 1 << 94, -(1 << 95)] {
            assert_eq!(Nanos::from(Packed::from(time)), time);
        }
        assert_eq!(Nanos::from(Packed::MIN), -(1 << 95));
    }
}
