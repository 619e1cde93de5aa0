//! Microservice router: requests that need one or several services, each with its own protection.
//!
//! The services speak HTTP over the loopback; one of them is down for a while:
//! `cargo run --release --example microservices`.

mod common;
#[path = "common/http.rs"]
mod http;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Data, Page, bar};
use http::{Answer, Client, Server};
use streamz::prelude::*;
use streamz::{BoxError, CallError};

/// A request of a client: its sender, and its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub id: u32,
    /// `user` or `order`; other kinds are unknown.
    pub service: &'static str,
    pub requires_auth: bool,
    pub include_user: bool,
}

impl Request {
    pub fn wants_user(&self) -> bool {
        self.service == "user" || self.include_user
    }

    /// The services that contribute to the answer.
    pub fn parts(&self) -> Vec<&'static str> {
        let known = [
            ("auth", self.requires_auth),
            ("user", self.wants_user()),
            ("order", self.service == "order"),
        ];
        let parts: Vec<_> =
            known.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name).collect();
        if parts.is_empty() { vec!["none"] } else { parts }
    }
}

/// The answer of one service to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub request: u32,
    pub service: &'static str,
    pub outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Answered,
    /// The service was called, and failed.
    Failed,
    /// The service was not called, because it had failed too often.
    NotAsked,
    /// There is no such service.
    Unknown,
}

impl Part {
    fn new(request: &Request, service: &'static str, outcome: Outcome) -> Self {
        Self { request: request.id, service, outcome }
    }
}

// [pattern]
/// Asks each service that a request needs, and emits a [`Part`] for each, whatever happens.
/// `ask` is given the name of the service.
pub fn services<A>(ask: A) -> Router<Request, Part>
where
    A: Fn(&CancelToken, &Request, &'static str) -> Result<(), BoxError>
        + Clone
        + Send
        + Sync
        + 'static,
{
    let pool = |service: &'static str, workers| {
        let ask = ask.clone();
        let call = move |cancel: &CancelToken, request: &Request| ask(cancel, request, service);
        AsyncMapper::new(call)
            .with_name(service)
            .with_workers(workers)
            .with_timeout(Duration::from_secs(1))
    };
    // Cheap, and often busy for a moment: retry, and stop soon.
    let auth =
        Retry::new(pool("auth", 5)).max_attempts(3).base_delay(Duration::from_millis(10));
    let auth = CircuitBreaker::new(auth).failure_threshold(0.3).with_count_window(20);
    // Optional: when it is down, continue without it.
    let user =
        CircuitBreaker::new(pool("user", 10)).failure_threshold(0.5).with_count_window(20);
    let user = user.recovery_timeout(Duration::from_millis(400));
    // Slow, and never down.
    let order = pool("order", 20);

    Router::new()
        .with_name("services")
        .with_buffer_size(100)
        .all_matches()
        .add_route(
            "auth",
            |request: &Request| request.requires_auth,
            auth.combine(part("auth")),
        )
        .add_route("user", Request::wants_user, user.combine(part("user")))
        .add_route(
            "order",
            |request: &Request| request.service == "order",
            order.combine(part("order")),
        )
        .with_default(Mapper::new(|request: Request| {
            Part::new(&request, "none", Outcome::Unknown)
        }))
}

/// Makes a part of the answer even from a failed call.
fn part(
    service: &'static str,
) -> impl Fn(Request, Result<(), CallError<BoxError>>) -> Combined + Send + Sync {
    move |request, result| {
        let outcome = match result {
            Ok(()) => Outcome::Answered,
            Err(error) if error.is_circuit_open() => Outcome::NotAsked,
            Err(_) => Outcome::Failed,
        };
        Ok(Part::new(&request, service, outcome))
    }
}
// [/pattern]

type Combined = Result<Part, (Request, CallError<BoxError>)>;

fn main() -> ExitCode {
    common::run(
        "Microservices: 1,200 requests; `user` is down in the middle, `auth` is often busy",
        serve,
    )
}

fn serve(page: &Page) -> Result<(), BoxError> {
    let mut data = Data::seeded(102);
    let mut request = |id| {
        let service = *data.pick(&["user", "order", "order", "order", "weather"]);
        Request { id, service, requires_auth: data.chance(0.6), include_user: data.chance(0.3) }
    };
    let requests: Vec<Request> = (0..1_200).map(&mut request).collect();

    let pipeline = Pipeline::new("services");
    let start = pipeline.now();
    let count = Arc::new(AtomicU64::new(0));
    let auth = Server::start(5, move |_, _| match count.fetch_add(1, Ordering::Relaxed) % 5 {
        0 => Answer::new(503, "busy"),
        _ => Answer::new(200, "welcome"),
    })?;
    let user = Server::start(10, move |cancel, _| {
        match cancel.now().saturating_duration_since(start).as_millis() {
            1_000..2_000 => Answer::new(500, "down"),
            _ => Answer::new(200, "somebody"),
        }
    })?;
    let order = Server::start(20, |cancel, _| match cancel.sleep(Duration::from_millis(20)) {
        Ok(()) => Answer::new(200, "on its way"),
        Err(_) => Answer::new(503, "closing"),
    })?;
    let urls = Arc::new(HashMap::from([
        ("auth", auth.url("/")),
        ("user", user.url("/")),
        ("order", order.url("/")),
    ]));

    let client = Client::new();
    let router = services(move |cancel, request, service| {
        match client.post(cancel, &urls[service], &request.id.to_string())?.status {
            200 => Ok(()),
            status => Err(format!("`{service}` answered {status}").into()),
        }
    });
    let paced = Stream::from_iter(&pipeline, requests.clone()).through(&Throttle::new(400.0));
    let stats = router.stats();
    let mut answers = HashMap::<u32, Vec<Part>>::new();
    for part in paced.through(&router) {
        let part = part?;
        answers.entry(part.request).or_default().push(part);
    }
    let report = pipeline.join();

    let parts = || answers.values().flatten();
    let count = |service: &str, outcome| {
        parts().filter(|it| it.service == service && it.outcome == outcome).count()
    };
    page.say("");
    page.table(
        &["service", "asked for", "", "answered", "failed", "not asked"],
        ["auth", "user", "order"].map(|name| {
            let items = stats.items(name);
            let [answered, failed, not_asked] =
                [Outcome::Answered, Outcome::Failed, Outcome::NotAsked]
                    .map(|outcome| count(name, outcome).to_string());
            [
                name.to_owned(),
                items.to_string(),
                bar(items as f64, 1_200.0, 24),
                answered,
                failed,
                not_asked,
            ]
        }),
    );
    page.say(format_args!(
        "\n{} requests were for an unknown service\n",
        stats.items("default")
    ));

    let complete = |request: &Request| {
        let mut got: Vec<_> =
            answers.get(&request.id).into_iter().flatten().map(|part| part.service).collect();
        let mut wanted = request.parts();
        got.sort_unstable();
        wanted.sort_unstable();
        got == wanted
    };
    page.check(
        "every request got a part from each service it needs, once",
        requests.iter().all(complete),
    );
    page.check(
        "while `user` was down, calls to it stopped soon",
        count("user", Outcome::NotAsked) > count("user", Outcome::Failed),
    );
    let well =
        |service: &str| count(service, Outcome::Answered) as f64 / stats.items(service) as f64;
    page.check(
        "the others were not affected: `order` and `auth` answered nearly all",
        well("order") > 0.95 && well("auth") > 0.95,
    );
    let late = requests.iter().filter(|request| request.id >= 1_000 && request.wants_user());
    let user_answered = |request: &Request| {
        answers[&request.id]
            .iter()
            .any(|part| part.service == "user" && part.outcome == Outcome::Answered)
    };
    page.check(
        "and it was called again afterwards",
        late.clone().filter(|it| user_answered(it)).count() * 2 > late.count(),
    );
    page.check("all items are accounted for", report.is_complete());
    Ok(())
}
