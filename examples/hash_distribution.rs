//! Load distribution by hash: all requests of a session go to one worker, and adding a worker moves few sessions.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::sync::Arc;

use common::{Data, Page, bar};
use parking_lot::Mutex;
use streamz::BoxError;
use streamz::prelude::*;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub session: String,
    pub number: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub session: String,
    pub number: u32,
    pub worker: usize,
}

// [pattern]
/// Serves requests with `workers` workers, of four threads each. `serve` is given the number of
/// the worker. A session is always served by the same worker, its requests one at a time and in
/// order.
pub fn distribute<F>(requests: Stream<Request>, workers: usize, serve: F) -> Stream<Response>
where
    F: Fn(usize, &CancelToken, &Request) -> Result<Response, BoxError> + Send + Sync + 'static,
{
    let serve = Arc::new(serve);
    let worker = move |index| {
        let serve = Arc::clone(&serve);
        // Several sessions at a time, but one request of each.
        AsyncMapper::keyed_by_ref(
            |request: &Request| request.session.as_str(),
            move |cancel: &CancelToken, request: &Request| serve(index, cancel, request),
        )
        .with_workers(4)
        .with_name(format!("worker-{index}"))
    };
    let by_session = Partition::by_ref(|request: &Request| request.session.as_str())
        .with_consistent_hashing()
        .with_partitions(workers)
        .with_name("sessions");
    requests.through(&by_session.each(worker))
}
// [/pattern]

/// Workers that cache the sessions they have seen.
#[derive(Default)]
struct Fleet {
    /// The sessions in the memory of each worker, with the number of requests served.
    memory: Mutex<HashMap<(usize, String), u32>>,
}

impl Fleet {
    fn serve(&self, worker: usize, request: &Request) -> Response {
        *self.memory.lock().entry((worker, request.session.clone())).or_default() += 1;
        Response { session: request.session.clone(), number: request.number, worker }
    }
}

/// The responses of one day with the given number of workers.
fn day(requests: &[Request], workers: usize) -> Result<(Vec<Response>, Fleet), BoxError> {
    let fleet = Arc::new(Fleet::default());
    let pipeline = Pipeline::new("day");
    let serve = {
        let fleet = Arc::clone(&fleet);
        move |worker, _: &CancelToken, request: &Request| Ok(fleet.serve(worker, request))
    };
    let stream = Stream::from_iter(&pipeline, requests.to_vec());
    let responses = distribute(stream, workers, serve).collect::<Vec<_>>()?;
    pipeline.join();
    Ok((responses, Arc::into_inner(fleet).ok_or("a server is still in use")?))
}

/// The worker of each session by the hash modulo the number of workers: the hand-written solution.
fn by_remainder(
    requests: &[Request],
    workers: usize,
) -> Result<BTreeMap<String, usize>, BoxError> {
    let pipeline = Pipeline::new("remainder");
    let place =
        Partition::new(|request: &Request| request.session.clone()).with_partitions(workers);
    let placed =
        place.each(|index| Mapper::new(move |request: Request| (request.session, index)));
    Ok(Stream::from_iter(&pipeline, requests.to_vec()).through(&placed).collect()?)
}

fn main() -> ExitCode {
    common::run("Load distribution by hash: each session keeps its worker", two_days)
}

fn two_days(page: &Page) -> Result<(), BoxError> {
    let mut data = Data::seeded(66);
    let mut numbers = HashMap::new();
    let request = |_| {
        let session = format!("session-{}", data.skewed(3_000));
        let number = numbers.entry(session.clone()).or_insert(0);
        *number += 1;
        Request { session, number: *number }
    };
    let requests: Vec<Request> = (0..20_000).map(request).collect();

    let (responses, fleet) = day(&requests, 5)?;
    let (more_responses, _) = day(&requests, 6)?;

    let memory = fleet.memory.into_inner();
    let row = |worker| {
        let sessions = memory.iter().filter(|((of, _), _)| *of == worker);
        (sessions.clone().count(), sessions.map(|(_, served)| served).sum::<u32>())
    };
    page.say("\nFive workers:\n");
    page.table(
        &["worker", "sessions", "requests", ""],
        (0..5).map(|worker| {
            let (sessions, served) = row(worker);
            let share = f64::from(served) / requests.len() as f64;
            [worker.to_string(), sessions.to_string(), served.to_string(), bar(share, 0.5, 40)]
        }),
    );

    let places = |responses: &[Response]| -> BTreeMap<String, usize> {
        responses.iter().map(|response| (response.session.clone(), response.worker)).collect()
    };
    let (before, after) = (places(&responses), places(&more_responses));
    let moved = |before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>| {
        before.iter().filter(|(session, worker)| after[*session] != **worker).count() as f64
            / before.len() as f64
    };
    let (jump, remainder) = (
        moved(&before, &after),
        moved(&by_remainder(&requests, 5)?, &by_remainder(&requests, 6)?),
    );
    page.say("\nA sixth worker is added. Sessions that move, and lose their data in memory:\n");
    page.table(
        &["place", "moved", ""],
        [("consistent hash", jump), ("hash modulo workers", remainder)].map(|(rule, share)| {
            [rule.to_owned(), format!("{:.1}%", share * 100.0), bar(share, 1.0, 40)]
        }),
    );
    page.say("");

    let mut last = HashMap::new();
    let in_order = responses
        .iter()
        .all(|it| last.insert(&it.session, it.number).unwrap_or(0) + 1 == it.number);
    page.check_eq("every request was answered", responses.len(), requests.len());
    page.check_eq("each session was served by one worker only", memory.len(), before.len());
    page.check("the responses of a session are in order", in_order);
    page.check(
        "sessions that move go to the new worker",
        before.iter().all(|(session, worker)| after[session] == *worker || after[session] == 5),
    );
    page.check("about one session in six moves", (0.13..0.20).contains(&jump));
    Ok(())
}
