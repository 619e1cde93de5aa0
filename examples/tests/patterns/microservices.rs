//! Microservice router: each service that a request needs has its say, and the trouble of one is its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, CancelToken, ManualClock, Pipeline};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../microservices.rs"]
mod example;

use example::{Outcome, Part, Request, services};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The services: who is down, and how often each was asked.
#[derive(Clone, Default)]
struct Services {
    down: Arc<Mutex<Vec<&'static str>>>,
    asked: Arc<Mutex<HashMap<&'static str, u32>>>,
}

impl Services {
    fn ask(&self, cancel: &CancelToken, service: &'static str) -> Result<(), BoxError> {
        *self.asked.lock().entry(service).or_default() += 1;
        cancel.sleep(ms(if service == "order" { 100 } else { 1 }))?;
        if self.down.lock().contains(&service) { Err("down".into()) } else { Ok(()) }
    }

    fn asked(&self, service: &str) -> u32 {
        self.asked.lock().get(service).copied().unwrap_or(0)
    }
}

fn request(id: u32, service: &'static str, requires_auth: bool, include_user: bool) -> Request {
    Request { id, service, requires_auth, include_user }
}

struct Rig {
    clock: ManualClock,
    pipeline: Pipeline,
    source: TestSource<Request>,
    parts: Recorder<Part>,
    services: Services,
}

fn rig() -> Rig {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("services").clock(&clock).build();
    let (source, requests) = TestSource::new(&pipeline);
    let services = Services::default();
    let called = services.clone();
    let router = self::services(move |cancel, _, service| called.ask(cancel, service));
    let parts = Recorder::new(requests.through(&router));
    Rig { clock, pipeline, source, parts, services }
}

#[test]
fn each_service_answers_once_and_an_unknown_one_is_reported() {
    let rig = rig();
    let requests = [
        request(0, "order", true, true),
        request(1, "order", false, false),
        request(2, "user", true, true),
        request(3, "weather", false, false),
        request(4, "weather", true, false),
    ];
    rig.source.push_all(requests.clone());
    rig.clock.advance(ms(100));
    let mut found: Vec<_> =
        rig.parts.items().iter().map(|part| (part.request, part.service)).collect();
    found.sort_unstable();
    let mut wanted: Vec<_> = requests
        .iter()
        .flat_map(|it| it.parts().into_iter().map(|part| (it.id, part)))
        .collect();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    assert_eq!(wanted.iter().filter(|(_, part)| *part == "none").count(), 1);
    rig.source.end();
    assert!(rig.pipeline.join().is_complete());
}

#[test]
fn a_failing_service_is_not_called_and_delays_no_other() {
    let rig = rig();
    rig.services.down.lock().push("user");
    rig.source.push_all((0..60).map(|id| request(id, "order", false, true)));
    // Sixty orders, twenty at a time.
    rig.clock.advance(ms(300));
    let parts = rig.parts.items();
    let count = |service: &str, outcome| {
        parts.iter().filter(|it| it.service == service && it.outcome == outcome).count()
    };
    assert_eq!((parts.len(), count("order", Outcome::Answered)), (120, 60));
    // Ten at the same time were enough; those that had started by then are counted, too.
    let (failed, not_asked) =
        (count("user", Outcome::Failed), count("user", Outcome::NotAsked));
    assert!((10..20).contains(&failed) && failed + not_asked == 60, "{failed}, {not_asked}");
    assert_eq!(rig.services.asked("user") as usize, failed);

    // It is asked again after a while.
    rig.services.down.lock().clear();
    rig.clock.advance(ms(400));
    rig.source.push_all((60..70).map(|id| request(id, "user", false, false)));
    rig.clock.advance(ms(1));
    assert!(rig.parts.items().iter().any(|part| part.outcome == Outcome::Answered));
    rig.source.end();
    assert!(rig.pipeline.join().is_complete());
}

#[test]
fn only_auth_is_retried() {
    let rig = rig();
    *rig.services.down.lock() = vec!["auth", "user", "order"];
    rig.source.push(request(0, "order", true, true));
    rig.clock.advance(ms(100));
    let parts = rig.parts.items();
    assert!(parts.len() == 3 && parts.iter().all(|part| part.outcome == Outcome::Failed));
    assert_eq!(["auth", "user", "order"].map(|service| rig.services.asked(service)), [3, 1, 1]);
    rig.source.end();
    assert!(rig.pipeline.join().is_complete());
}
