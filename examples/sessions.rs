//! Session state: each activity updates the state of its session; finished and abandoned ones are removed.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use common::{Data, Page, bar};
use streamz::prelude::*;
use streamz::testing::{Recorder, TestSource};
use streamz::{BoxError, Custom, Emit, ManualClock, Operator};

/// An activity of a visitor in a shop.
#[derive(Debug, Clone)]
pub struct Activity {
    pub session: u32,
    pub action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    View,
    /// Adds an article with this price in cents to the basket.
    Add(u32),
    Pay,
}

/// The state of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub session: u32,
    pub status: Status,
    pub actions: u32,
    pub cents: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Active,
    Paid,
    /// There was no activity for 30 minutes, or the input ended.
    Abandoned,
}

// [pattern]
/// After this time without activity, a session expires.
const IDLE: Duration = Duration::from_secs(1800);

/// Emits an update for each activity, and one for each expired session. Has four threads, each
/// with its own sessions.
pub fn follow_sessions(activities: Stream<Activity>) -> Stream<Update> {
    let by_session = Partition::new(|activity: &Activity| activity.session)
        .with_partitions(4)
        .each(|_| Custom::new("sessions", Sessions::default));
    activities.through(&by_session)
}

/// The open sessions of one partition. Nothing else sees them, so there is no lock.
#[derive(Debug, Default)]
struct Sessions {
    open: HashMap<u32, Session>,
    /// When each session expires, the next one first.
    due: BTreeSet<(Instant, u32)>,
    ended: bool,
}

#[derive(Debug)]
struct Session {
    due: Instant,
    actions: u32,
    cents: u32,
}

impl Operator for Sessions {
    type In = Activity;
    type Out = Update;

    fn item(
        &mut self,
        Activity { session: id, action }: Activity,
        out: &mut impl Emit<Update>,
    ) {
        let due = out.now() + IDLE;
        let session = self.open.entry(id).or_insert(Session { due, actions: 0, cents: 0 });
        self.due.remove(&(session.due, id));
        session.due = due;
        session.actions += 1;
        if let Action::Add(cents) = action {
            session.cents += cents;
        }
        let status = if action == Action::Pay { Status::Paid } else { Status::Active };
        out.emit(Update {
            session: id,
            status,
            actions: session.actions,
            cents: session.cents,
        });
        if status == Status::Paid {
            self.open.remove(&id);
        } else {
            self.due.insert((due, id));
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    fn timer(&mut self, _now: Instant, out: &mut impl Emit<Update>) {
        self.give_up_next(out);
    }

    fn end(&mut self, _out: &mut impl Emit<Update>) {
        self.ended = true;
    }

    /// At the end, all open sessions are emitted, as far as there is room.
    fn resume(&mut self, out: &mut impl Emit<Update>) -> bool {
        while self.ended && !self.due.is_empty() && !out.is_full() {
            self.give_up_next(out);
        }
        self.ended && !self.due.is_empty()
    }
}

impl Sessions {
    fn give_up_next(&mut self, out: &mut impl Emit<Update>) {
        let Some((_, id)) = self.due.pop_first() else { return };
        if let Some(Session { actions, cents, .. }) = self.open.remove(&id) {
            // Settles no activity: each activity has had its own update.
            out.emit_from(Update { session: id, status: Status::Abandoned, actions, cents }, 0);
        }
    }
}
// [/pattern]

fn main() -> ExitCode {
    common::run("Session state: a day in a shop, in virtual time", follow_a_day)
}

fn follow_a_day(page: &Page) -> Result<(), BoxError> {
    let day = a_day();
    let activities = day.len();
    // A day passes in a moment: the program controls the time.
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("shop").clock(&clock).build();
    let (source, stream) = TestSource::new(&pipeline);
    let updates = Recorder::new(follow_sessions(stream));
    let adds = day.iter().filter_map(|(_, it)| {
        if let Action::Add(cents) = it.action { Some(cents) } else { None }
    });
    let put_into_baskets: u32 = adds.sum();
    source.play(day);
    clock.advance(Duration::from_secs(3600)); // all that are open fall due
    let updates = updates.timed_items();
    source.end();
    let report = pipeline.join();

    let mut closed: BTreeMap<u32, Vec<&Update>> = BTreeMap::new();
    let mut by_hour = [(0u32, 0u32); 24];
    for (time, update) in &updates {
        let hour = &mut by_hour[(time.as_secs() / 3600).min(23) as usize];
        match update.status {
            Status::Active => continue,
            Status::Paid => hour.0 += 1,
            Status::Abandoned => hour.1 += 1,
        }
        closed.entry(update.session).or_default().push(update);
    }
    page.say("\nSessions that ended, by the hour:\n");
    let most = by_hour.iter().map(|(paid, abandoned)| paid + abandoned).max().unwrap_or(0);
    page.table(
        &["hour", "paid", "abandoned", ""],
        by_hour.iter().enumerate().filter(|(_, hour)| **hour != (0, 0)).map(
            |(hour, &(paid, abandoned))| {
                let bar = bar(f64::from(paid + abandoned), f64::from(most), 40);
                [format!("{hour:02}:00"), paid.to_string(), abandoned.to_string(), bar]
            },
        ),
    );
    let ends: Vec<&Update> = closed.values().flatten().copied().collect();
    let sold: u32 = ends
        .iter()
        .filter(|update| update.status == Status::Paid)
        .map(|update| update.cents)
        .sum();
    let left: u32 = ends
        .iter()
        .filter(|update| update.status == Status::Abandoned)
        .map(|update| update.cents)
        .sum();
    let euros = |cents: u32| format!("{}.{:02}", cents / 100, cents % 100);
    page.say(format_args!(
        "\n{activities} activities, sold for {}, left in baskets: {}\n",
        euros(sold),
        euros(left)
    ));

    page.check_eq(
        "what was put into baskets was either sold or left",
        sold + left,
        put_into_baskets,
    );
    page.check_eq(
        "every activity is part of a session that ended",
        ends.iter().map(|it| it.actions as usize).sum(),
        activities,
    );
    page.check(
        "every activity has an update",
        updates.len()
            == activities + ends.iter().filter(|it| it.status == Status::Abandoned).count(),
    );
    page.check_eq(
        "every session came to one end, with no need for the input to end",
        ends.len(),
        3_000,
    );
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}

/// The activities of 3,000 visitors between 8 and 20 o'clock, by time.
fn a_day() -> Vec<(Duration, Activity)> {
    let mut data = Data::seeded(14);
    let mut day = Vec::new();
    for session in 0..3_000 {
        let rush = if data.chance(0.4) { 3_600 * 4 } else { 0 };
        let mut second = 8 * 3_600 + rush + data.between(0..7 * 3_600);
        loop {
            let action = match data.between(0..10) {
                0..6 => Action::View,
                6..9 => Action::Add(data.between(99..=4_999)),
                _ => Action::Pay,
            };
            day.push((Duration::from_secs(second.into()), Activity { session, action }));
            if action == Action::Pay || data.chance(0.12) {
                break;
            }
            second += data.between(5..600);
        }
    }
    day.sort_by_key(|(time, _)| *time);
    day
}
