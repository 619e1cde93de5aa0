//! Split: sign-ups are checked once; the good ones are completed, the bad ones are kept with the reason.

mod common;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::SystemTime;

use common::{Data, Page, bar};
use streamz::prelude::*;
use streamz::{BoxError, SplitOutput, SplitStats};
use thiserror::Error;

/// The input of a visitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignUp {
    pub id: u32,
    pub name: String,
    pub email: String,
    pub age: u8,
}

/// The reason for a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Fault {
    #[error("no name")]
    NoName,
    #[error("no such address")]
    BadEmail,
    #[error("under 16")]
    TooYoung,
}

/// A rejected sign-up, with the reason and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub sign_up: SignUp,
    pub fault: Fault,
    pub time: SystemTime,
}

/// An accepted sign-up, with additional data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub id: u32,
    pub country: String,
}

// [pattern]
/// The two outputs, and their counts.
pub struct Validated {
    pub members: Stream<Member>,
    pub rejected: Stream<Rejected>,
    pub stats: SplitStats,
}

/// Checks each sign-up once, with `check`; completes the good ones with `enrich`, ten at a
/// time.
pub fn validate<C, E>(
    cancel: &CancelToken,
    sign_ups: Stream<SignUp>,
    check: C,
    enrich: E,
) -> Validated
where
    C: Fn(&SignUp) -> Result<(), Fault> + Send + Sync + 'static,
    E: Fn(&SignUp) -> Result<Member, BoxError> + Send + Sync + 'static,
{
    let clock = cancel.clock().clone();
    // The verdict travels with the item, so the reason need not be computed again.
    let checked = sign_ups.map(move |sign_up: SignUp| match check(&sign_up) {
        Ok(()) => Ok(sign_up),
        Err(fault) => Err(Rejected { sign_up, fault, time: clock.wall() }),
    });
    let validator = Split::new(Result::is_ok).with_buffer_size(100).with_name("validator");
    let SplitOutput { matched: good, rest: bad, stats } = validator.process(cancel, checked);

    let enrich = AsyncMapper::new(move |_: &CancelToken, sign_up: &SignUp| enrich(sign_up))
        .with_workers(10);
    let members = good.filter_map(Result::ok).through(&enrich.with_name("enrich"));
    let rejected = bad.filter_map(Result::err);
    Validated { members, rejected, stats }
}
// [/pattern]

pub fn check(sign_up: &SignUp) -> Result<(), Fault> {
    let (user, host) = sign_up.email.split_once('@').unwrap_or_default();
    if sign_up.name.trim().is_empty() {
        Err(Fault::NoName)
    } else if user.is_empty() || !host.contains('.') {
        Err(Fault::BadEmail)
    } else if sign_up.age < 16 {
        Err(Fault::TooYoung)
    } else {
        Ok(())
    }
}

/// The country, from the last part of the address.
fn enrich(sign_up: &SignUp) -> Result<Member, BoxError> {
    let country = match sign_up.email.rsplit('.').next() {
        Some("de") => "Germany",
        Some("fr") => "France",
        Some("jp") => "Japan",
        _ => "elsewhere",
    };
    Ok(Member { id: sign_up.id, country: country.to_owned() })
}

fn sign_ups(data: &mut Data, n: u32) -> Vec<SignUp> {
    let mut sign_up = |id| {
        let name = if data.chance(0.05) {
            " "
        } else {
            *data.pick(&["Ada", "Bo", "Chen", "Dara", "Edo"])
        };
        let host =
            *data.pick(&["post.de", "poste.fr", "yubin.jp", "mail.com", "mail.com", "nowhere"]);
        SignUp {
            id,
            name: name.to_owned(),
            email: format!("user{id}@{host}"),
            age: data.between(10..80) as u8,
        }
    };
    (0..n).map(&mut sign_up).collect()
}

fn main() -> ExitCode {
    common::run("Split: good sign-ups continue, bad ones are kept with the reason", sign_up_day)
}

fn sign_up_day(page: &Page) -> Result<(), BoxError> {
    let input = sign_ups(&mut Data::seeded(17), 20_000);

    let (read, report) = Pipeline::run("sign-ups", |pipeline| {
        let stream = Stream::from_iter(pipeline, input.clone());
        let Validated { members, rejected, stats } = validate(pipeline, stream, check, enrich);
        // Two streams are read at the same time: one on a thread of the pipeline, one here.
        let rejected = rejected.spawn(|rejected| rejected.collect::<Vec<_>>());
        let members = members.collect::<Vec<_>>()?;
        streamz::ok((members, rejected.join()?, stats))
    });
    let (members, rejected, stats) = read?;

    let mut groups: BTreeMap<(&str, String), u32> = BTreeMap::new();
    members
        .iter()
        .for_each(|member| *groups.entry(("good", member.country.clone())).or_default() += 1);
    rejected.iter().for_each(|rejected| {
        *groups.entry(("bad", rejected.fault.to_string())).or_default() += 1
    });
    page.say("");
    page.table(
        &["", "country or fault", "sign-ups", ""],
        groups.iter().rev().map(|((verdict, what), &n)| {
            [
                (*verdict).to_owned(),
                what.clone(),
                n.to_string(),
                bar(n.into(), input.len() as f64, 60),
            ]
        }),
    );
    page.say(format_args!(
        "\n{:.1}% of {} were good\n",
        stats.matched_ratio() * 100.0,
        stats.total_items()
    ));

    page.check_eq(
        "every sign-up took one of the two ways",
        members.len() + rejected.len(),
        input.len(),
    );
    page.check_eq(
        "the counts say the same",
        (stats.matched(), stats.rest()),
        (count(&members), count(&rejected)),
    );
    page.check(
        "all rejected sign-ups are kept, in order, with the reason",
        rejected
            .iter()
            .map(|it| (&it.sign_up, it.fault))
            .eq(input.iter().filter_map(|it| Some((it, check(it).err()?)))),
    );
    page.check(
        "all accepted sign-ups are complete, in order",
        members
            .iter()
            .map(|it| it.id)
            .eq(input.iter().filter(|it| check(it).is_ok()).map(|it| it.id)),
    );
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}

fn count<T>(list: &[T]) -> u64 {
    list.len() as u64
}
