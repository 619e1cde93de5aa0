//! [`Open`]: a batch that is being collected, and [`Limits`]: when it is complete.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::BatchConfig;
use crate::panic::{self, Held, PanicPayload};

type Weigh<T> = Arc<dyn Fn(&T) -> usize + Send + Sync>;

/// When a batch is complete.
pub(super) struct Limits<T> {
    pub(super) max_size: usize,
    /// `None` for no limit.
    pub(super) max_latency: Option<Duration>,
    weigh: Option<Weigh<T>>,
    max_weight: usize,
}

impl<T> Limits<T> {
    #[track_caller]
    pub(super) fn new(config: &BatchConfig) -> Self {
        assert!(config.max_size > 0, "`max_size` must be at least 1");
        let max_latency = Some(config.max_latency).filter(|latency| !latency.is_zero() && *latency != Duration::MAX);
        Self { max_size: config.max_size, max_latency, weigh: None, max_weight: usize::MAX }
    }

    #[track_caller]
    pub(super) fn set_weight(&mut self, weigh: impl Fn(&T) -> usize + Send + Sync + 'static, max_weight: usize) {
        assert!(max_weight > 0, "`max_weight` must be at least 1");
        self.weigh = Some(Arc::new(weigh));
        self.max_weight = max_weight;
    }

    /// Returns the weight of `item`; 0 if there is no limit. Calls user code.
    #[inline]
    pub(super) fn weigh(&self, item: &T) -> Result<usize, PanicPayload> {
        match &self.weigh {
            None => Ok(0),
            Some(weigh) => panic::catch(|| weigh(item)),
        }
    }

    /// Returns when a batch is due whose first item arrived at `now`. The clock is read only if it matters.
    #[inline]
    pub(super) fn due(&self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        // A time out of range means never.
        self.max_latency.and_then(|latency| now().checked_add(latency))
    }
}

impl<T> Clone for Limits<T> {
    fn clone(&self) -> Self {
        Self { weigh: self.weigh.clone(), ..*self }
    }
}

/// A batch that is being collected.
pub(super) struct Open<T> {
    pub(super) items: Held<Vec<T>>,
    weight: usize,
}

impl<T> Open<T> {
    pub(super) fn with_room_for(items: usize) -> Self {
        Self { items: Vec::with_capacity(items).into(), weight: 0 }
    }

    /// Whether an item of this weight belongs to the next batch. The first one never does, however heavy it is.
    #[inline]
    pub(super) fn is_too_full_for(&self, weight: usize, limits: &Limits<T>) -> bool {
        let is_too_heavy = self.weight.checked_add(weight).is_none_or(|sum| sum > limits.max_weight);
        is_too_heavy && !self.items.is_empty()
    }

    /// Adds an item. Returns true if the batch is complete now.
    #[inline]
    pub(super) fn add(&mut self, item: T, weight: usize, limits: &Limits<T>) -> bool {
        self.items.push(item);
        // An overflow is impossible: the sum would exceed any limit.
        self.weight += weight;
        self.items.len() >= limits.max_size || self.weight >= limits.max_weight
    }

    pub(super) fn len(&self) -> u64 {
        self.items.len() as u64
    }
}
