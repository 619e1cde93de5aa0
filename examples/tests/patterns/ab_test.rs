//! A/B test.

use std::collections::HashMap;
use std::time::Duration;

use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, CancelToken, ManualClock, Outcome, Pipeline, Stream};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../ab_test.rs"]
mod example;

use example::{Measured, Request, ab_test, is_in_b};

fn request(id: u32, user: impl ToString) -> Request {
    Request { id, user: user.to_string() }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Takes the given time, and fails for number 13. Users with an even number buy.
fn shop(
    millis: u64,
) -> impl Fn(&CancelToken, &Request) -> Result<bool, BoxError> + Send + Sync + 'static {
    move |cancel, request| {
        cancel.sleep(ms(millis))?;
        if request.id == 13 { Err("closed".into()) } else { Ok(request.id.is_multiple_of(2)) }
    }
}

/// Users on either side.
fn users() -> (String, String) {
    let user = |b| {
        (0..)
            .map(|n| format!("user-{n}"))
            .find(|user| is_in_b("new shop", user, 10) == b)
            .unwrap()
    };
    (user(false), user(true))
}

#[test]
fn a_fixed_tenth_is_in_b_and_differs_between_experiments() {
    let users: Vec<String> = (0..10_000).map(|n| format!("user-{n}")).collect();
    let in_b = |experiment: &'static str| {
        users.iter().filter(move |user| is_in_b(experiment, user, 10))
    };
    assert!((900..1_100).contains(&in_b("new shop").count()));
    let in_both = in_b("new shop").filter(|user| is_in_b("search", user, 10)).count();
    assert!((60..140).contains(&in_both), "{in_both} of about 1000");
    // These must be the same in every version of the program.
    assert_eq!(in_b("new shop").take(3).collect::<Vec<_>>(), ["user-7", "user-11", "user-27"]);
    assert!(users.iter().all(|user| is_in_b("x", user, 100) && !is_in_b("x", user, 0)));
}

#[test]
fn a_user_sees_one_variant_and_all_requests_are_answered() {
    let pipeline = Pipeline::new("test");
    let requests = (0..5_000).map(|id| request(2 * id, id % 500));
    let (responses, [a, b]) = ab_test(Stream::from_iter(&pipeline, requests), shop(0), shop(0));
    let responses = responses.collect::<Vec<_>>().unwrap();
    let mut sides = HashMap::new();
    for response in &responses {
        assert_eq!(*sides.entry(&response.user).or_insert(response.variant), response.variant);
        let expected =
            if is_in_b("new shop", &response.user, 10) { "variant-b" } else { "variant-a" };
        assert_eq!(response.variant, expected);
    }
    assert_eq!(
        (responses.len() as u32, sides.len()),
        (a.read().answered + b.read().answered, 500)
    );
}

#[test]
fn each_variant_is_measured_separately_under_its_own_name() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, requests) = TestSource::new(&pipeline);
    let (responses, metrics) = ab_test(requests, shop(40), shop(70));
    let responses = Recorder::new(responses);
    let (in_a, in_b) = users();
    source.push_all([
        request(1, &in_a),
        request(2, &in_b),
        request(4, &in_a),
        request(13, &in_b),
    ]);
    source.end();
    clock.advance(ms(1_000));

    let outputs = responses.timed_outputs().into_iter();
    let seen: Vec<_> = outputs
        .map(|(time, it)| {
            (time, it.map_or_else(|e| e.stage().to_owned(), |r| r.variant.to_owned()))
        })
        .collect();
    let at = |n, name: &str| (ms(n), name.to_owned());
    assert_eq!(
        seen,
        [at(40, "variant-a"), at(40, "variant-a"), at(70, "variant-b"), at(70, "variant-b")]
    );
    let expected = [
        Measured { answered: 2, failed: 0, bought: 1, took: ms(80) },
        Measured { answered: 1, failed: 1, bought: 1, took: ms(70) },
    ];
    assert_eq!(metrics.map(|metrics| metrics.read()), expected);
}

#[test]
fn everything_ends_when_the_responses_are_dropped() {
    let pipeline = Pipeline::new("test");
    let endless = Stream::from_iter(&pipeline, (0..).map(|id| request(2 * id, id % 100)));
    let (mut responses, _) = ab_test(endless, shop(0), shop(0));
    assert!(responses.recv().unwrap().is_ok());
    drop(responses);
    assert!(matches!(pipeline.join().outcome, Outcome::Completed));
}
