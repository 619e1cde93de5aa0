//! API gateway: HTTP requests go through a pipeline, and each gets its answer.
//!
//! Clients, gateway and service talk HTTP over the loopback: `cargo run --release --example api_gateway`.

mod common;
#[path = "common/http.rs"]
mod http;

use std::collections::{BTreeMap, HashMap};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Data, Page, bar};
use crossbeam_channel::bounded;
use http::{Answer, Client, Server};
use parking_lot::Mutex;
use streamz::prelude::*;
use streamz::{BoxError, StreamStats};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub id: u64,
    pub key: String,
    pub endpoint: String,
}

/// The answer to the request with the same id; the status is one of HTTP's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub id: u64,
    pub status: u16,
    pub text: String,
}

impl Request {
    pub fn is_valid(&self) -> bool {
        !self.key.is_empty() && !self.endpoint.is_empty()
    }

    pub fn answer(&self, status: u16, text: &str) -> Response {
        Response { id: self.id, status, text: text.to_owned() }
    }
}

// [pattern]
/// Answers every request, whatever happens. `service` receives up to ten requests at once.
pub fn gateway(
    requests: Stream<Request>,
    service: impl Fn(&CancelToken, &[Request]) -> Result<Vec<Response>, BoxError>
    + Send
    + Sync
    + 'static,
    on_stats: impl Fn(StreamStats) + Send + Sync + 'static,
) -> Stream<Response> {
    let call = move |cancel: &CancelToken, batch: &Vec<Request>| match service(cancel, batch) {
        Ok(answers) if answers.len() != batch.len() => {
            Err("the service left some unanswered".into())
        }
        result => result,
    };
    let calls = AsyncMapper::new(call)
        .with_name("service")
        .with_workers(20)
        .with_timeout(Duration::from_millis(250));
    let guarded = CircuitBreaker::new(calls)
        .with_count_window(10)
        .min_requests(5)
        .recovery_timeout(Duration::from_millis(300));
    // If a batch fails, each of its requests still gets an answer.
    let answered = guarded.combine(|batch, result| {
        Ok(result.unwrap_or_else(|error| {
            let (status, text) = match error.kind() {
                ErrorKind::CircuitOpen => (503, "try again later"),
                ErrorKind::TimedOut => (504, "the service took too long"),
                _ => (502, "the service failed"),
            };
            batch.iter().map(|request| request.answer(status, text)).collect()
        }))
    });

    // Invalid requests are answered here, so that they do not use up the rate.
    let (valid, invalid) = requests.split(Request::is_valid);
    let served = valid
        .through(&Throttle::new(1_000.0).with_burst(10))
        .batch(BatchConfig { max_size: 10, max_latency: Duration::from_millis(50) })
        .through(&answered)
        .through(&Flatten::new());
    let refused = invalid.map(|request| request.answer(401, "a key and an endpoint, please"));
    served.merge([refused]).monitor(Duration::from_millis(250), on_stats)
}
// [/pattern]

/// The HTTP side of the gateway: returns each answer to its client.
struct Front {
    requests: Sender<Request>,
    waiting: Waiting,
    ids: AtomicU64,
}

type Waiting = Arc<Mutex<HashMap<u64, crossbeam_channel::Sender<Response>>>>;

impl Front {
    /// The path is the endpoint, the text is the key.
    fn ask(&self, path: &str, key: &str) -> Answer {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = bounded(1);
        self.waiting.lock().insert(id, answer);
        let request = Request {
            id,
            key: key.to_owned(),
            endpoint: path.trim_start_matches('/').to_owned(),
        };
        if self.requests.send(request).is_err() {
            return Answer::new(503, "closing");
        }
        match answered.recv() {
            Ok(response) => Answer::new(response.status, response.text),
            Err(_) => Answer::new(500, "no answer"),
        }
    }
}

/// The service: returns a line for each requested endpoint. It is down for a while.
fn service(age: Duration, endpoints: &str) -> Answer {
    match age.as_millis() {
        600..1_400 => Answer::new(500, "down"),
        _ => Answer::new(
            200,
            endpoints
                .lines()
                .map(|endpoint| format!("all about {endpoint}\n"))
                .collect::<String>(),
        ),
    }
}

fn call(
    client: &Client,
    url: &str,
    cancel: &CancelToken,
    batch: &[Request],
) -> Result<Vec<Response>, BoxError> {
    let endpoints: Vec<&str> = batch.iter().map(|request| request.endpoint.as_str()).collect();
    let answer = client.post(cancel, url, &endpoints.join("\n"))?;
    if answer.status != 200 {
        return Err(format!("the service answered {}", answer.status).into());
    }
    Ok(batch
        .iter()
        .zip(answer.text.lines())
        .map(|(request, line)| request.answer(200, line))
        .collect())
}

fn main() -> ExitCode {
    common::run(
        "API gateway: 40 clients, 1,000 requests a second at most, a service that is down for a while",
        serve,
    )
}

fn serve(page: &Page) -> Result<(), BoxError> {
    let pipeline = Pipeline::new("gateway");
    let start = pipeline.now();
    let calls = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&calls);
    let behind = Server::start(20, move |cancel, question| {
        count.fetch_add(1, Ordering::Relaxed);
        service(cancel.now().saturating_duration_since(start), &question.text)
    })?;

    page.say("");
    let (requests, stream) = Stream::channel(&pipeline, 100);
    let (client, url, live) = (Client::new(), behind.url("/batch"), page.clone());
    let responses = gateway(
        stream,
        move |cancel, batch| call(&client, &url, cancel, batch),
        move |stats| {
            live.say(format_args!(
                "  {:>5.0} answers a second {}",
                stats.rate,
                bar(stats.rate, 2_000.0, 40)
            ))
        },
    );
    let waiting = Waiting::default();
    let front = Front { requests, waiting: Arc::clone(&waiting), ids: AtomicU64::new(0) };
    responses.named("answer").spawn_for_each(move |response| {
        let Ok(response) = response else { return waiting.lock().clear() };
        if let Some(answer) = waiting.lock().remove(&response.id) {
            let _ = answer.send(response);
        }
    });
    let server =
        Server::start(40, move |_, question| front.ask(&question.path, &question.text))?;

    // Each client sends requests for two and a half seconds; every 25th has no key.
    let outcomes = std::thread::scope(|scope| {
        let clients = (0..40).map(|seed| {
            let (server, token) = (&server, pipeline.token());
            scope.spawn(move || {
                let (client, mut data, mut outcomes) =
                    (Client::new(), Data::seeded(seed), Vec::new());
                while token.now().saturating_duration_since(start)
                    < Duration::from_millis(2_500)
                {
                    let n = outcomes.len();
                    let (endpoint, key) =
                        (format!("{seed}-{n}"), if data.chance(0.04) { "" } else { "secret" });
                    let answer = client.post(&token, &server.url(&format!("/{endpoint}")), key);
                    outcomes.push((endpoint, key, answer.map_err(|error| error.to_string())));
                }
                outcomes
            })
        });
        let clients: Vec<_> = clients.collect();
        clients
            .into_iter()
            .filter_map(|client| client.join().ok())
            .flatten()
            .collect::<Vec<_>>()
    });
    let took = pipeline.now().saturating_duration_since(start);
    // The server owns the last sender, so dropping it ends the stream.
    drop(server);
    let report = pipeline.join();
    drop(behind);

    let mut by_status = BTreeMap::<u16, usize>::new();
    outcomes.iter().for_each(|(.., answer)| {
        *by_status.entry(answer.as_ref().map_or(0, |it| it.status)).or_default() += 1
    });
    page.say("");
    page.table(
        &["status", "answers", ""],
        by_status.iter().map(|(status, count)| {
            [
                status.to_string(),
                count.to_string(),
                bar(*count as f64, outcomes.len() as f64, 40),
            ]
        }),
    );
    let calls = calls.load(Ordering::Relaxed);
    page.say(format_args!(
        "\n{} requests in {took:.1?}, {calls} calls of the service\n",
        outcomes.len()
    ));

    let of = |status| by_status.get(&status).copied().unwrap_or(0);
    page.check(
        "every request was answered",
        outcomes.iter().all(|(.., answer)| answer.is_ok()),
    );
    page.check(
        "each request got its own answer",
        outcomes.iter().all(|(endpoint, _, answer)| {
            answer
                .as_ref()
                .is_ok_and(|it| it.status != 200 || it.text == format!("all about {endpoint}"))
        }),
    );
    page.check_eq(
        "exactly those without a key got 401",
        of(401),
        outcomes.iter().filter(|(_, key, _)| key.is_empty()).count(),
    );
    page.check("while the service was down, it was not called", of(503) > 0);
    let valid = outcomes.len() - of(401);
    page.check(
        "no more than 1,000 requests in a second",
        took >= Duration::from_micros(1_000 * (valid as u64).saturating_sub(10)),
    );
    page.check("calls of the service combined several requests", calls < valid as u64);
    page.check("all items are accounted for", report.is_complete());
    Ok(())
}
