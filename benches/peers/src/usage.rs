//! What the process has used so far, as far as the system tells.

use std::time::Duration;

/// Processor time and context switches of all threads, those that have ended too.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Switches because a thread waited.
    pub(crate) waits: u64,
    /// Switches because another thread was given the processor.
    pub(crate) preempted: u64,
}

impl Usage {
    #[cfg(unix)]
    pub(crate) fn now() -> Option<Self> {
        use nix::sys::resource::{UsageWho, getrusage};
        use nix::sys::time::TimeVal;

        let duration = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1_000);
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
        Some(Self {
            cpu: duration(usage.user_time()) + duration(usage.system_time()),
            waits: usage.voluntary_context_switches() as u64,
            preempted: usage.involuntary_context_switches() as u64,
        })
    }

    #[cfg(not(unix))]
    pub(crate) fn now() -> Option<Self> {
        None
    }

    /// What was used since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            waits: self.waits - earlier.waits,
            preempted: self.preempted - earlier.preempted,
        }
    }
}

/// The most memory that this process has had, in KiB; only Linux tells.
pub(crate) fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
