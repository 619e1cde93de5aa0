//! Which threads of this process are alive.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// Starts the pool of threads that stays for as long as the process, with names of its own.
///
/// A thread without a name has that of the thread that started it: the pool would pass for a part of the first pipeline
/// that uses it.
pub fn start_shared_pool() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let pool = rayon::ThreadPoolBuilder::new().thread_name(|index| format!("rayon-{index}"));
        pool.build_global().expect("the first use of the shared pool");
    });
}

/// A name for a pipeline that no other one in this process has; its threads are known by it.
pub fn unique_name(prefix: char) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{prefix}{:x}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The names of the threads that belong to the pipeline, as the operating system has them.
///
/// The system keeps 15 bytes of `stage-0 pipeline`. A thread whose stage has a long name is not found here; where all
/// threads of the process are counted at the end, it is found there. On systems without `/proc` none is found.
pub fn of_pipeline(name: &str) -> Vec<String> {
    let end = format!(" {name}");
    all().into_iter().filter(|thread| thread.ends_with(&end)).collect()
}

/// The names of all threads of this process.
pub fn all() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    tasks.flatten().filter_map(name).map(|name| name.trim_end().to_owned()).collect()
}

/// How many threads of this process belong neither to the pool that stays nor to the watchdog that waits for them to go.
pub fn count_of_ours() -> usize {
    all().iter().filter(|name| !name.starts_with("rayon") && *name != "threads").count()
}

/// Waits until none of the pipeline's threads is left.
///
/// A thread that has been joined stays on the system's list for a moment; one that leaks stays forever, and the
/// watchdog of the test finds it here.
pub fn wait_until_gone(name: &str) {
    while !of_pipeline(name).is_empty() {
        std::thread::yield_now();
    }
}
