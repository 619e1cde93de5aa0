//! Split.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use streamz::testing::{Recorder, TestSink, TestSource};
use streamz::{BoxError, CancelToken, ManualClock, Outcome, Pipeline, Stream};

#[allow(dead_code, unreachable_pub, reason = "its main is not run here")]
#[path = "../../split.rs"]
mod example;

use example::{Fault, Member, SignUp, Validated, check, validate};

fn sign_up(id: u32, name: &str, email: &str, age: u8) -> SignUp {
    SignUp { id, name: name.to_owned(), email: email.to_owned(), age }
}

fn enrich(sign_up: &SignUp) -> Result<Member, BoxError> {
    if sign_up.name == "Eve" {
        return Err("the register does not answer".into());
    }
    Ok(Member { id: sign_up.id, country: "here".to_owned() })
}

fn start(cancel: &CancelToken, stream: Stream<SignUp>) -> (Validated, Arc<AtomicU32>) {
    let checks = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&checks);
    let check = move |sign_up: &SignUp| {
        counted.fetch_add(1, Ordering::Relaxed);
        check(sign_up)
    };
    (validate(cancel, stream, check, enrich), checks)
}

#[test]
fn each_sign_up_is_checked_once_and_takes_one_branch() {
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(12 * 60 * 60);
    let clock = ManualClock::starting_at(noon);
    let pipeline = Pipeline::builder("test").clock(&clock).build();
    let (source, stream) = TestSource::new(&pipeline);
    let (Validated { members, rejected, stats }, checks) = start(&pipeline, stream);
    let (members, rejected) = (Recorder::new(members), Recorder::new(rejected));

    let second = Duration::from_secs;
    source.play([
        (second(0), sign_up(1, "Ada", "ada@post.de", 36)),
        (second(1), sign_up(2, "", "x@post.de", 36)),
        (second(2), sign_up(3, "Bo", "bo@nowhere", 36)),
        (second(3), sign_up(4, "Chen", "chen@mail.com", 16)),
        (second(4), sign_up(5, "Dara", "dara@mail.com", 15)),
    ]);
    source.end();
    assert!(pipeline.join().is_complete());

    assert_eq!(members.items().iter().map(|member| member.id).collect::<Vec<_>>(), [1, 4]);
    let rejected: Vec<_> =
        rejected.items().into_iter().map(|it| (it.sign_up.id, it.fault, it.time)).collect();
    let at = |n| noon + second(n);
    let expected =
        [(2, Fault::NoName, at(1)), (3, Fault::BadEmail, at(2)), (5, Fault::TooYoung, at(4))];
    assert_eq!(rejected, expected);
    assert_eq!(checks.load(Ordering::Relaxed), 5);
    assert_eq!((stats.matched(), stats.rest(), stats.matched_ratio()), (2, 3, 0.4));
}

#[test]
fn a_failed_call_sends_an_error_with_the_good_sign_ups() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, stream) = TestSource::new(&pipeline);
    let (Validated { members, rejected, .. }, _) = start(&pipeline, stream);
    let (mut members, rejected) = (TestSink::new(members), Recorder::new(rejected));
    let eve = || sign_up(1, "Eve", "eve@post.de", 30);
    source.push(eve());
    assert_eq!(members.expect_error_with(eve()).stage(), "enrich");
    source.end();
    members.expect_end();
    assert!(rejected.is_ended() && rejected.items().is_empty());
}

#[test]
fn an_unread_branch_blocks_the_other_and_is_named() {
    let pipeline = Pipeline::builder("test").clock(ManualClock::new()).build();
    let (source, stream) = TestSource::new(&pipeline);
    let (Validated { members: _members, rejected: _rejected, .. }, _) =
        start(&pipeline, stream);
    while source.try_push(sign_up(1, "", "", 0)).is_ok() {}
    let report = pipeline.report();
    assert_eq!(report.stage("validator").unwrap().blocking().collect::<Vec<_>>(), ["rest"]);
    // Returns when all threads have ended.
    assert!(matches!(pipeline.abort().outcome, Outcome::Cancelled(_)));
}
