//! The resources that the process has used so far, as far as the system reports them.

use std::time::{Duration, Instant};

#[cfg(unix)]
use nix::sys::resource::{UsageWho, getrusage};
#[cfg(unix)]
use nix::sys::time::TimeVal;

/// CPU time and context switches of all threads, including those that have ended.
#[derive(Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu: Duration,
    /// Switches because a thread waited.
    pub(crate) waits: u64,
    /// Switches because another thread received the CPU core.
    pub(crate) preempted: u64,
}

impl Usage {
    /// The usage of this process.
    #[cfg(unix)]
    pub(crate) fn now() -> Option<Self> {
        Self::of(UsageWho::RUSAGE_SELF)
    }

    /// The usage of the child processes that have ended.
    #[cfg(unix)]
    fn of_children() -> Option<Self> {
        Self::of(UsageWho::RUSAGE_CHILDREN)
    }

    #[cfg(unix)]
    fn of(who: UsageWho) -> Option<Self> {
        let duration = |time: TimeVal| Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1_000);
        let usage = getrusage(who).ok()?;
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

    #[cfg(not(unix))]
    fn of_children() -> Option<Self> {
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

/// The peak memory of this process, in KiB; only Linux reports it.
pub(crate) fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Watches how busy the rest of the machine is.
pub(crate) struct Others {
    since: Instant,
    used: Duration,
}

impl Others {
    /// Starts to watch; `None` if the system does not report it.
    pub(crate) fn watch() -> Option<Self> {
        Some(Self { since: Instant::now(), used: used_by_others()? })
    }

    /// How many CPU cores were busy with other work since then, on average.
    pub(crate) fn cores(&self) -> Option<f64> {
        let used = used_by_others()?.saturating_sub(self.used);
        Some(used.as_secs_f64() / self.since.elapsed().as_secs_f64())
    }
}

/// The CPU time of the whole machine, including the time stolen by its host, without our own; only Linux reports it.
fn used_by_others() -> Option<Duration> {
    /// The relevant values of the first line of `/proc/stat`, in hundredths of a second: user, nice, system, idle,
    /// waiting for disks, interrupts, soft interrupts, stolen.
    const BUSY: [usize; 6] = [0, 1, 2, 5, 6, 7];
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let columns = stat.lines().next()?.split_whitespace().skip(1).map(str::parse);
    let columns: Vec<u64> = columns.collect::<Result<_, _>>().ok()?;
    let hundredths = BUSY.iter().map(|&column| columns.get(column)).sum::<Option<u64>>()?;
    let ours = Usage::now()?.cpu + Usage::of_children()?.cpu;
    Some(Duration::from_millis(hundredths * 10).saturating_sub(ours))
}
