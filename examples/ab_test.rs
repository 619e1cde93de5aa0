//! A/B test: always the same tenth of the users gets the new shop, and each variant is measured separately.

mod common;

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use common::{Data, Page, bar};
use parking_lot::Mutex;
use streamz::prelude::*;
use streamz::{BoxError, ManualClock};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub id: u32,
    pub user: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub id: u32,
    pub user: String,
    pub variant: &'static str,
    pub has_bought: bool,
    pub took: Duration,
}

// [pattern]
/// The measurements of a variant. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Mutex<Measured>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    pub answered: u32,
    pub failed: u32,
    pub bought: u32,
    pub took: Duration,
}

/// The shop that answers: the old one, or the new one. It says whether the user has bought
/// something.
pub trait Shop:
    Fn(&CancelToken, &Request) -> Result<bool, BoxError> + Send + Sync + 'static
{
}
impl<F: Fn(&CancelToken, &Request) -> Result<bool, BoxError> + Send + Sync + 'static> Shop
    for F
{
}

/// Whether a user is among the `percent` that get the new variant. A user always gets the same
/// variant of an experiment; another experiment divides the users differently.
pub fn is_in_b(experiment: &str, user: &str, percent: u64) -> bool {
    // FNV-1a, followed by the finalizer of MurmurHash3; without it similar names would get
    // similar numbers.
    let bytes = experiment.bytes().chain([0]).chain(user.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, b| {
        (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)
    });
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (hash ^ (hash >> 33)) % 100 < percent
}

fn variant(
    name: &'static str,
    workers: usize,
    shop: impl Shop,
) -> (BoxProcessor<Request, Response>, Metrics) {
    let metrics = Metrics::default();
    let serve = AsyncMapper::new(move |cancel: &CancelToken, request: &Request| {
        let begun = cancel.now();
        let has_bought = shop(cancel, request)?;
        let Request { id, user } = request.clone();
        streamz::ok(Response {
            id,
            user,
            variant: name,
            has_bought,
            took: cancel.now() - begun,
        })
    });
    let [answers, failures] = [(); 2].map(|()| metrics.clone());
    let count = move |response: &Response| {
        let mut measured = answers.0.lock();
        measured.answered += 1;
        measured.bought += u32::from(response.has_bought);
        measured.took += response.took;
    };
    let measure = Tap::new(count).on_error(move |_| failures.0.lock().failed += 1);
    (serve.with_workers(workers).with_name(name).then(measure).boxed(), metrics)
}

/// Sends 10 % of the users to `b`, the others to `a`. The responses of both are merged into one
/// stream.
pub fn ab_test(
    requests: Stream<Request>,
    a: impl Shop,
    b: impl Shop,
) -> (Stream<Response>, [Metrics; 2]) {
    let (serve_a, metrics_a) = variant("variant-a", 15, a);
    let (serve_b, metrics_b) = variant("variant-b", 5, b);
    let router = Router::new()
        .add_route(
            "variant-b",
            |request: &Request| is_in_b("new shop", &request.user, 10),
            serve_b,
        )
        .add_route("variant-a", |_| true, serve_a)
        .with_name("ab-test");
    (requests.through(&router), [metrics_a, metrics_b])
}
// [/pattern]

impl Metrics {
    pub fn read(&self) -> Measured {
        self.0.lock().clone()
    }
}

impl Measured {
    fn rate(&self) -> f64 {
        f64::from(self.bought) / f64::from(self.answered)
    }

    /// Half the width of the interval in which the true rate lies in 95 cases of 100.
    fn uncertainty(&self) -> f64 {
        1.96 * (self.rate() * (1.0 - self.rate()) / f64::from(self.answered)).sqrt()
    }
}

/// A shop with the share of users who buy, and the duration of a call; one call in a hundred fails.
fn shop(seed: u64, rate: f64, millis: std::ops::Range<u32>) -> impl Shop {
    move |cancel: &CancelToken, request: &Request| {
        // The outcome of a request does not depend on its thread or its time.
        let mut data = Data::seeded(seed + u64::from(request.id));
        cancel.sleep(Duration::from_millis(data.between(millis.clone()).into()))?;
        if data.chance(0.01) { Err("the shop is closed".into()) } else { Ok(data.chance(rate)) }
    }
}

fn main() -> ExitCode {
    common::run("A/B test: a tenth of the users get the new shop", open_both_shops)
}

fn open_both_shops(page: &Page) -> Result<(), BoxError> {
    let mut data = Data::seeded(7);
    let request = |id| Request { id, user: format!("user-{}", data.between(..2_000)) };
    let requests: Vec<Request> = (0..6_000).map(request).collect();

    // Virtual time: the calls take their time, without a real wait.
    let pipeline = Pipeline::builder("shop").clock(ManualClock::new()).build();
    let stream = Stream::from_iter(&pipeline, requests.clone());
    let (mut responses, metrics) =
        ab_test(stream, shop(1, 0.12, 20..60), shop(2, 0.22, 30..90));
    let (mut answered, mut failed) = (Vec::new(), Vec::new());
    while let Ok(response) = responses.recv_timeout(Duration::from_secs(1)) {
        match response {
            Ok(response) => answered.push(response),
            Err(error) => failed.extend(error.take_item::<Request>()),
        }
    }
    let report = pipeline.join();
    let [a, b] = metrics.map(|metrics| metrics.read());

    page.say("");
    page.table(
        &["variant", "answered", "failed", "mean time", "bought", "±", ""],
        [("a", &a), ("b", &b)].map(|(name, it)| {
            let [rate, uncertainty] =
                [it.rate(), it.uncertainty()].map(|share| format!("{:.1}%", share * 100.0));
            let mean = format!("{} ms", (it.took / it.answered.max(1)).as_millis());
            let shown = bar(it.rate(), 0.4, 40);
            [
                name.to_owned(),
                it.answered.to_string(),
                it.failed.to_string(),
                mean,
                rate,
                uncertainty,
                shown,
            ]
        }),
    );
    let is_clear = b.rate() - b.uncertainty() > a.rate() + a.uncertainty();
    page.say(if is_clear {
        "\nThe new shop sells more.\n"
    } else {
        "\nMore requests are needed to tell.\n"
    });

    page.check_eq(
        "every request was answered, or came back",
        answered.len() + failed.len(),
        requests.len(),
    );
    let mut sides = HashMap::new();
    let is_sticky = answered
        .iter()
        .all(|it| *sides.entry(it.user.clone()).or_insert(it.variant) == it.variant);
    page.check("no user has seen both shops", is_sticky);
    let users: HashSet<&str> = requests.iter().map(|request| request.user.as_str()).collect();
    let share = |is: &dyn Fn(&str) -> bool, of: &dyn Fn(&str) -> bool| {
        let of: Vec<&&str> = users.iter().filter(|user| of(user)).collect();
        of.iter().filter(|user| is(user)).count() as f64 / of.len() as f64
    };
    let is_in = |user: &str| is_in_b("new shop", user, 10);
    page.check(
        "about a tenth of the users have seen the new shop",
        (0.08..0.12).contains(&share(&is_in, &|_| true)),
    );
    let other = |user: &str| is_in_b("another test", user, 10);
    page.check(
        "another test chooses a tenth of these, too",
        (0.04..0.16).contains(&share(&other, &is_in)),
    );
    let count = |variant| answered.iter().filter(|it| it.variant == variant).count() as u32;
    page.check_eq(
        "each variant was measured separately",
        [a.answered, b.answered],
        [count("variant-a"), count("variant-b")],
    );
    page.check_eq("failures were measured, too", (a.failed + b.failed) as usize, failed.len());
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}
