//! The optimum for a pool with a window.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::time::Duration;

/// The time that the workers take for the items if only the work takes time.
///
/// Items are started in order, each as soon as a worker is free and it lies in the window: fewer than `window` items
/// after the first unfinished one.
pub(super) fn perfect(items: u64, workers: usize, window: u64, length: impl Fn(u64) -> Duration) -> Duration {
    let mut now = Duration::ZERO;
    let mut running = BinaryHeap::new();
    let mut next = 0;
    let mut first_unfinished = 0;
    // From the first unfinished one on.
    let mut finished: VecDeque<bool> = VecDeque::new();
    loop {
        while next < items && running.len() < workers && next < first_unfinished + window {
            running.push(Reverse((now + length(next), next)));
            finished.push_back(false);
            next += 1;
        }
        let Some(Reverse((end, item))) = running.pop() else { return now };
        now = end;
        finished[(item - first_unfinished) as usize] = true;
        while finished.front() == Some(&true) {
            finished.pop_front();
            first_unfinished += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn even_work_is_shared_evenly() {
        assert_eq!(perfect(10, 2, 1024, |_| ms(3)), ms(15));
        assert_eq!(perfect(11, 2, 1024, |_| ms(3)), ms(18));
        assert_eq!(perfect(0, 2, 1024, |_| ms(3)), ms(0));
    }

    #[test]
    fn a_slow_item_holds_up_the_others_once_the_window_is_full() {
        let length = |n| if n == 0 { ms(10) } else { ms(1) };
        assert_eq!(perfect(10, 2, 1024, length), ms(10));
        // Items 1, 2 and 3 run beside it, the other six after it, two at a time.
        assert_eq!(perfect(10, 2, 4, length), ms(13));
    }
}
