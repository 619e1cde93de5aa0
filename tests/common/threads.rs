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
/// On systems without `/proc` none is found, and `Pipeline::join` has to be believed.
pub fn of_pipeline(name: &str) -> Vec<String> {
    // The system keeps 15 characters of a name: the pipeline's and the slash must be among them.
    let prefix = format!("{name}/");
    assert!(prefix.len() <= 15, "`{name}` is too long to be found again");
    all().into_iter().filter(|thread| thread.starts_with(&prefix)).collect()
}

/// The names of all threads of this process.
pub fn all() -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    tasks.flatten().filter_map(name).map(|name| name.trim_end().to_owned()).collect()
}

/// Waits until none of the pipeline's threads is left.
///
/// A thread that has been joined stays on the system's list for a moment; one that leaks stays for ever, and the
/// watchdog of the test finds it here.
pub fn wait_until_gone(name: &str) {
    while !of_pipeline(name).is_empty() {
        std::thread::yield_now();
    }
}
