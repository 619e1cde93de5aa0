//! [`Budget`]: limits retries to a share of the calls.
//!
//! The scheme of gRPC's retry throttling and Finagle's `RetryBudget`: a balance of tokens. Each call adds a fraction of
//! a token, each retry takes a whole one, *before* it waits, so retries in backoff count. The balance starts with the
//! reserve, and is limited to that, but to at least one token: savings of quiet hours must not be spent in one storm,
//! and a share that cannot be saved up would allow nothing. So in any `n` consecutive calls there are at most
//! `max(reserve, 1) + share * n` retries, and in the first `n` at most `reserve + share * n`. Time plays no role.

use std::sync::atomic::{AtomicU64, Ordering};

/// Fractions of a token.
const TOKEN: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Budget {
    share: u64,
    most: u64,
    purse: AtomicU64,
}

impl Budget {
    pub(super) fn new(share: f64, reserve: u32) -> Self {
        let reserve = u64::from(reserve) * TOKEN;
        // A cast from a float stays within the range of the integer.
        Self { share: (share * TOKEN as f64).round() as u64, most: reserve.max(TOKEN), purse: AtomicU64::new(reserve) }
    }

    /// A call is about to be made for the first time.
    pub(super) fn earn(&self) {
        self.change(|purse| Some(purse.saturating_add(self.share).min(self.most)).filter(|&more| more != purse));
    }

    /// Takes the price of a retry, if it is available.
    pub(super) fn spend(&self) -> bool {
        self.change(|purse| purse.checked_sub(TOKEN))
    }

    fn change(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        // It makes nothing else visible.
        self.purse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_the_reserve_and_a_share_of_the_calls() {
        let budget = Budget::new(0.2, 3);
        assert_eq!((0..10).filter(|_| budget.spend()).count(), 3);
        let spent = (0..100).filter(|_| {
            budget.earn();
            budget.spend()
        });
        assert_eq!(spent.count(), 20);
    }

    #[test]
    fn no_more_than_the_reserve_is_saved() {
        let budget = Budget::new(1.0, 2);
        (0..1_000).for_each(|_| budget.earn());
        assert_eq!((0..10).filter(|_| budget.spend()).count(), 2);
    }

    #[test]
    fn without_a_reserve_a_retry_is_saved_up_for() {
        let budget = Budget::new(0.25, 0);
        let spent: Vec<usize> = (1..=12)
            .filter(|_| {
                budget.earn();
                budget.spend()
            })
            .collect();
        assert_eq!(spent, [4, 8, 12]);
    }

    #[test]
    fn a_share_of_nothing_leaves_the_reserve() {
        let budget = Budget::new(0.0, 1);
        budget.earn();
        assert_eq!((budget.spend(), budget.spend()), (true, false));
    }
}
