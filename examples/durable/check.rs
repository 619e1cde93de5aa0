//! The final count.

use std::fmt;

use crate::Fallible;
use crate::store::{Store, read};
use crate::work::Topics;

/// The outcomes of the payments.
#[derive(Debug)]
pub(crate) struct Found {
    payments: u64,
    done: u64,
    dead: u64,
    missing: u64,
    duplicates: u64,
}

impl Found {
    pub(crate) fn is_complete(&self) -> bool {
        self.missing == 0
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = 100.0 * self.duplicates as f64 / self.payments.max(1) as f64;
        writeln!(f, "made:       {:>8}", self.done)?;
        writeln!(f, "put aside:  {:>8}", self.dead)?;
        writeln!(f, "duplicates: {:>8}  ({share:.1} %)", self.duplicates)?;
        writeln!(f, "missing:    {:>8}", self.missing)?;
        f.write_str(if self.is_complete() { "nothing lost" } else { "PAYMENTS WERE LOST" })
    }
}

pub(crate) fn count<S: Store>(store: &S, topics: &Topics, payments: u64) -> Fallible<Found> {
    let size = usize::try_from(payments)?;
    let (mut done, mut dead) = (vec![0_u32; size], vec![0_u32; size]);
    for (topic, seen) in [(&topics.done, &mut done), (&topics.dead, &mut dead)] {
        read(store, topic, |number| {
            *seen
                .get_mut(number as usize)
                .ok_or_else(|| format!("payment {number} was never made"))? += 1;
            Ok(())
        })?;
    }
    let missing = (0..size).filter(|&number| done[number] + dead[number] == 0).count();
    let written: u64 = done.iter().chain(&dead).map(|&count| u64::from(count)).sum();
    let (done, dead) = (
        done.iter().filter(|&&count| count > 0).count(),
        dead.iter().filter(|&&count| count > 0).count(),
    );
    let (done, dead, missing) = (done as u64, dead as u64, missing as u64);
    Ok(Found {
        payments,
        done,
        dead,
        missing,
        duplicates: written.saturating_sub(payments - missing),
    })
}
