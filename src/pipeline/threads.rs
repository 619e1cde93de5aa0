//! Operating-system threads that serve one stage after another.
//!
//! Creating and ending a thread costs more than running a small pipeline. So a thread whose job has ended waits for the
//! next one: a stage with the same thread name, because the standard library cannot rename a thread, and `top`, a
//! debugger and panic messages show its name. A service that builds a pipeline for each request uses the same names
//! each time.
//!
//! # Invariants
//!
//! - A thread serves jobs of only one name and stack size.
//! - A name that is new to the process gets a thread that ends with its job, and that the caller joins. From the second
//!   time on, the name is expected to recur. So a program that runs a pipeline once has no idle threads, and all
//!   thread-locals of its stages have been dropped when it has been joined.
//! - A thread is idle exactly while it is listed. Taking it from the list implies giving it a job: a thread whose wait
//!   times out and that is no longer listed knows that a job is on its way.
//! - An idle thread ends after [`LINGER`]. At most [`MOST_IDLE`] are idle, and at most [`MOST_NAMES`] names are known.
//! - No job is run, dropped or waited for under the lock of the list.
//! - A forked child process has none of the threads of its parent, so it starts with an empty list.
//!
//! An idle thread belongs to no pipeline and is never joined: the process may exit while it waits.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a thread waits for its next job, in real time.
const LINGER: Duration = Duration::from_secs(5);

/// The maximum number of idle threads.
const MOST_IDLE: usize = 256;

/// The maximum number of known names.
const MOST_NAMES: usize = 1024;

/// A thread's work. It is called on this thread, or with the error on that of the caller, and catches its own panics.
pub(super) type Job = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The threads of the process.
pub(super) static THREADS: Threads = Threads::new(LINGER);

pub(super) struct Threads {
    linger: Duration,
    idle: Mutex<Idle>,
}

struct Idle {
    process: u32,
    /// The idle threads of each name, the most recent at the end.
    names: BTreeMap<Arc<str>, Vec<Worker>>,
    count: usize,
}

#[derive(Clone)]
struct Worker {
    name: Arc<str>,
    stack_size: usize,
    desk: Arc<Desk>,
}

/// Where an idle thread finds its next job.
#[derive(Default)]
struct Desk {
    job: Mutex<Option<Job>>,
    given: Condvar,
}

/// The result of looking up a name.
enum Found {
    Idle(Worker),
    /// No thread is idle, but the name was used before.
    Known,
    New,
}

impl Threads {
    const fn new(linger: Duration) -> Self {
        Self { linger, idle: Mutex::new(Idle { process: 0, names: BTreeMap::new(), count: 0 }) }
    }

    /// Runs `job` on a thread of that name: an idle one, or a new one. Returns a thread that will not be used again, to
    /// be joined. Without `reuse`, that is a new one each time.
    ///
    /// # Errors
    /// If the operating system provides no thread; returns the job.
    pub(super) fn run(
        &'static self,
        name: &Arc<str>,
        stack_size: usize,
        reuse: bool,
        job: Job,
    ) -> Result<Option<JoinHandle<()>>, (io::Error, Job)> {
        let found = if reuse { self.idle.lock().take(name, stack_size, std::process::id()) } else { Found::New };
        let is_known = match found {
            Found::Idle(worker) => {
                worker.desk.put(job);
                return Ok(None);
            }
            Found::Known => true,
            Found::New => false,
        };
        let worker = Worker { name: Arc::clone(name), stack_size, desk: Arc::default() };
        let desk = Arc::clone(&worker.desk);
        // Outside the closure, which a failed spawn destroys.
        desk.put(job);
        let work = move || if is_known { self.serve(&worker) } else { worker.desk.take().into_iter().for_each(call) };
        match Builder::new().name(name.to_string()).stack_size(stack_size).spawn(work) {
            Ok(handle) => Ok((!is_known).then_some(handle)),
            Err(error) => match desk.take() {
                Some(job) => Err((error, job)),
                None => unreachable!("there is no thread that could have taken it"),
            },
        }
    }

    /// The life of a thread whose name recurs.
    fn serve(&self, worker: &Worker) {
        let mut next = worker.desk.take();
        while let Some(job) = next {
            call(job);
            let is_listed = self.idle.lock().enter(worker);
            next = if is_listed { self.next_job(worker) } else { None };
        }
    }

    /// Waits for a job. If none comes, the thread is no longer listed.
    fn next_job(&self, worker: &Worker) -> Option<Job> {
        let job = worker.desk.wait_for(self.linger);
        if job.is_some() || self.idle.lock().leave(worker) { job } else { Some(worker.desk.wait()) }
    }
}

fn call(job: Job) {
    job(Ok(()));
}

impl Desk {
    fn put(&self, job: Job) {
        *self.job.lock() = Some(job);
        self.given.notify_one();
    }

    fn take(&self) -> Option<Job> {
        self.job.lock().take()
    }

    fn wait(&self) -> Job {
        let mut job = self.job.lock();
        loop {
            match job.take() {
                Some(job) => return job,
                None => self.given.wait(&mut job),
            }
        }
    }

    fn wait_for(&self, limit: Duration) -> Option<Job> {
        let mut job = self.job.lock();
        self.given.wait_while_for(&mut job, |job| job.is_none(), limit);
        job.take()
    }
}

impl Idle {
    /// Takes the thread that has been idle for the shortest time.
    fn take(&mut self, name: &Arc<str>, stack_size: usize, process: u32) -> Found {
        if self.process != process {
            *self = Self { process, names: BTreeMap::new(), count: 0 };
        }
        let Some(workers) = self.names.get_mut(name) else {
            if self.names.len() >= MOST_NAMES {
                self.names.retain(|_, workers| !workers.is_empty());
            }
            self.names.insert(Arc::clone(name), Vec::new());
            return Found::New;
        };
        match workers.iter().rposition(|worker| worker.stack_size == stack_size) {
            Some(index) => {
                self.count -= 1;
                Found::Idle(workers.remove(index))
            }
            None => Found::Known,
        }
    }

    /// Lists an idle thread. Returns false if there are too many.
    fn enter(&mut self, worker: &Worker) -> bool {
        if self.count >= MOST_IDLE {
            return false;
        }
        self.count += 1;
        self.names.entry(Arc::clone(&worker.name)).or_default().push(worker.clone());
        true
    }

    /// Takes a thread off the list. Returns false if it has been taken for a job.
    fn leave(&mut self, worker: &Worker) -> bool {
        let Some(workers) = self.names.get_mut(&worker.name) else { return false };
        let index = workers.iter().position(|other| Arc::ptr_eq(&other.desk, &worker.desk));
        if let Some(index) = index {
            workers.remove(index);
            self.count -= 1;
        }
        index.is_some()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Barrier;
    use std::thread::{self, ThreadId};

    use super::*;
    use crate::{AsyncMapper, CancelToken, Pipeline, Stream};

    const HOUR: Duration = Duration::from_secs(3600);
    const STACK: usize = 1 << 20;

    /// Threads that linger for this long, and that no other test uses.
    fn threads(linger: Duration) -> &'static Threads {
        Box::leak(Box::new(Threads::new(linger)))
    }

    impl Threads {
        fn idle(&self, name: &str, stack_size: usize) -> usize {
            let idle = self.idle.lock();
            idle.names.get(name).map_or(0, |all| all.iter().filter(|worker| worker.stack_size == stack_size).count())
        }

        /// Runs a job and returns its thread, which has ended or is idle by then.
        fn on(&'static self, name: &str, stack_size: usize, reuse: bool) -> ThreadId {
            let (said, says) = crossbeam_channel::bounded(1);
            let job: Job = Box::new(move |started| {
                started.unwrap();
                said.send(thread::current().id()).unwrap();
            });
            let Ok(handle) = self.run(&name.into(), stack_size, reuse, job) else { panic!("no thread") };
            match handle {
                Some(handle) => handle.join().unwrap(),
                None => {
                    while self.idle(name, stack_size) == 0 {
                        thread::yield_now()
                    }
                }
            }
            says.recv().unwrap()
        }
    }

    #[test]
    fn a_recurring_name_gets_the_same_thread() {
        let threads = threads(HOUR);
        let first = threads.on("map", STACK, true);
        let second = threads.on("map", STACK, true);
        assert_ne!(first, second, "a new name is not expected to recur");
        assert_eq!(threads.on("map", STACK, true), second);
        let large = threads.on("map", 2 * STACK, true);
        assert_ne!(large, second);
        assert_eq!(threads.on("map", STACK, true), second);
        assert_eq!(threads.on("map", 2 * STACK, true), large);
        assert_ne!(threads.on("filter", STACK, true), second);
    }

    #[test]
    fn without_reuse_each_job_has_a_new_thread() {
        let threads = threads(HOUR);
        let ids: HashSet<_> = (0..3).map(|_| threads.on("map", STACK, false)).collect();
        assert_eq!(ids.len(), 3);
        assert!(threads.idle.lock().names.is_empty());
    }

    #[test]
    fn a_job_for_which_there_is_no_thread_comes_back() {
        let threads = threads(HOUR);
        for _ in 0..2 {
            let result =
                threads.run(&"map".into(), usize::MAX / 4, true, Box::new(|started| assert!(started.is_err())));
            let Err((error, job)) = result else { panic!("a stack of that size") };
            job(Err(error));
        }
        threads.on("map", STACK, true);
    }

    fn worker(name: &str) -> Worker {
        Worker { name: name.into(), stack_size: STACK, desk: Arc::default() }
    }

    #[test]
    fn a_thread_that_gets_no_job_leaves() {
        let (threads, worker) = (threads(Duration::ZERO), worker("map"));
        assert!(threads.idle.lock().enter(&worker));
        assert!(threads.next_job(&worker).is_none());
        assert_eq!(threads.idle("map", STACK), 0);
        assert_eq!(threads.idle.lock().count, 0);
    }

    #[test]
    fn a_job_that_comes_as_the_thread_leaves_is_run() {
        // It is not listed, as if `run` had just taken it off the list.
        let (threads, worker) = (threads(Duration::ZERO), worker("map"));
        let desk = Arc::clone(&worker.desk);
        let waiting = thread::spawn(move || threads.next_job(&worker).is_some());
        desk.put(Box::new(|_| ()));
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn idle_threads_and_known_names_are_bounded() {
        let mut idle = threads(HOUR).idle.lock();
        let (busy, late) = (worker("busy"), worker("late"));
        (0..MOST_IDLE).for_each(|_| assert!(idle.enter(&busy)));
        assert!(!idle.enter(&late));
        assert!(matches!(idle.take(&busy.name, STACK, 0), Found::Idle(_)));
        assert!(idle.enter(&late));
        for number in 0..10 * MOST_NAMES {
            assert!(matches!(idle.take(&number.to_string().into(), STACK, 0), Found::New));
            assert!(idle.names.len() <= MOST_NAMES);
        }
        assert_eq!(idle.count, MOST_IDLE);
        assert!(idle.leave(&late) && !idle.leave(&late));
        assert_eq!(idle.names[&busy.name].len(), MOST_IDLE - 1);
    }

    #[test]
    fn a_forked_child_does_not_find_the_threads_of_its_parent() {
        let mut idle = threads(HOUR).idle.lock();
        let worker = worker("map");
        assert!(idle.enter(&worker));
        assert!(matches!(idle.take(&worker.name, STACK, 1), Found::New));
        assert_eq!(idle.count, 0);
    }

    #[test]
    fn a_thread_serves_on_after_a_panic_in_a_stage() {
        let run = || {
            let pipeline = Pipeline::new("careless");
            let numbers = Stream::from_iter(&pipeline, 0..2_u32);
            let mut seen = numbers.map(|n| if n == 0 { panic!("no") } else { thread::current().id() });
            assert!(seen.recv().unwrap().is_err());
            let id = seen.recv().unwrap().unwrap();
            assert!(seen.recv().is_none());
            assert!(pipeline.join().is_complete());
            id
        };
        // A thread may still be on its way to the list when the pipeline has been joined: then there is another one.
        let mut used = HashSet::new();
        while used.insert(run()) {}
    }

    #[test]
    fn every_worker_of_a_pool_gets_a_thread_that_served_before() {
        // Each worker has one of the two items: the calls wait for each other.
        let run = || {
            let both = Arc::new(Barrier::new(2));
            let call = move |_: &CancelToken, _: &u32| {
                both.wait();
                crate::ok((thread::current().name().map(str::to_owned), thread::current().id()))
            };
            let pipeline = Pipeline::new("pooled");
            let numbers = Stream::from_iter(&pipeline, 0..2_u32);
            let threads = numbers.through(&AsyncMapper::new(call).with_workers(2)).collect::<Vec<_>>().unwrap();
            pipeline.join();
            threads
        };
        // A thread may still be on its way to the list when the pipeline has been joined: then there is another one.
        let (mut used, mut again) = (HashSet::new(), HashSet::new());
        for (name, id) in (0..1_000).flat_map(|_| run()) {
            if !used.insert(id) {
                again.insert(name);
            }
            if again.len() == 2 {
                return;
            }
        }
        panic!("only these: {again:?}");
    }
}
