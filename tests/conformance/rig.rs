//! A pipeline with one operator in it, and the check that ends every case.

use std::marker::PhantomData;
use std::sync::Arc;

use streamz::{
    Custom, Emit, ManualClock, Operator, Outcome, Pipeline, Report, Sender, Stream, StreamError, TryRecvError,
};

use crate::common::books;
use crate::common::faults::Faults;
use crate::common::item::Census;
use crate::common::seen::{Seen, put_in};
use crate::common::threads;
use crate::subject::{Site, Subject};

/// The time of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    System,
    Manual,
}

/// A pipeline under test.
pub struct Rig {
    pub pipeline: Pipeline,
    pub clock: Option<ManualClock>,
    pub census: Census,
    name: String,
}

/// What a test puts into a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Item(u64),
    Error(u64),
}

/// What comes at place `n` of an endless input with errors in it.
pub fn event_between_errors(n: u64) -> Event {
    if n % 2 == 1 { Event::Error(n) } else { Event::Item(n) }
}

/// Makes of events what they stand for.
struct Unfold<In, F> {
    make: Arc<F>,
    types: PhantomData<fn(In)>,
}

impl<In: Send + 'static, F: Fn(u64) -> In + Send + Sync + 'static> Operator for Unfold<In, F> {
    type In = Event;
    type Out = In;

    fn item(&mut self, event: Event, out: &mut impl Emit<In>) {
        match event {
            Event::Item(value) => out.emit((self.make)(value)),
            Event::Error(number) => {
                out.failed(1);
                out.error(put_in(number));
            }
        }
    }
}

/// Items 0 to `n - 1`.
pub fn items(n: u64) -> Vec<Event> {
    (0..n).map(Event::Item).collect()
}

/// The output of an operator, as the test reads it.
pub struct Output<Out: Send + 'static> {
    stream: Stream<Out>,
    seen: fn(&Out) -> Seen,
    /// The error items that came out, as they are.
    pub errors: Vec<StreamError>,
}

impl Rig {
    pub fn new(time: Time, capacity: usize) -> Self {
        let name = threads::unique_name('c');
        let clock = (time == Time::Manual).then(ManualClock::new);
        let mut builder = Pipeline::builder(name.as_str()).capacity(capacity);
        if let Some(clock) = &clock {
            builder = builder.clock(clock);
        }
        Self { pipeline: builder.build(), clock, census: Census::default(), name }
    }

    /// Waits until every stage waits. For cases on virtual time.
    pub fn settle(&self) {
        self.clock.as_ref().expect("a case on virtual time").settle();
    }

    /// The operator with an input that is fed by hand, with room for `room` items.
    pub fn fed_by_hand<In, Out>(
        &self,
        subject: &Subject<In, Out>,
        faults: Faults,
        room: usize,
    ) -> (Sender<In>, Output<Out>)
    where
        In: Send + 'static,
        Out: Send + 'static,
    {
        let (sender, stream) = Stream::channel(&self.pipeline, room);
        (sender, self.through(subject, faults, stream))
    }

    /// The operator with an endless input.
    pub fn endless<In, Out>(&self, subject: &Subject<In, Out>) -> Output<Out>
    where
        In: Send + 'static,
        Out: Send + 'static,
    {
        self.through(subject, Faults::None, self.endless_input(subject))
    }

    /// An endless stream of what the operator takes.
    pub fn endless_input<In, Out>(&self, subject: &Subject<In, Out>) -> Stream<In>
    where
        In: Send + 'static,
        Out: Send + 'static,
    {
        let (census, wrap) = (self.census.clone(), subject.wrap);
        let make = move |value| wrap(census.item(value));
        if subject.errors_between {
            let make = Arc::new(make);
            let unfold = Custom::new("events", move || Unfold { make: Arc::clone(&make), types: PhantomData });
            Stream::from_iter(&self.pipeline, (0..).map(event_between_errors)).through(&unfold)
        } else {
            Stream::from_iter(&self.pipeline, (0..).map(make))
        }
    }

    pub fn through<In, Out>(&self, subject: &Subject<In, Out>, faults: Faults, input: Stream<In>) -> Output<Out>
    where
        In: Send + 'static,
        Out: Send + 'static,
    {
        self.output(subject, input.through(&subject.processor(&Site { faults, asleep: false })))
    }

    pub fn output<In, Out>(&self, subject: &Subject<In, Out>, stream: Stream<Out>) -> Output<Out>
    where
        In: Send + 'static,
        Out: Send + 'static,
    {
        Output { stream, seen: subject.seen, errors: Vec::new() }
    }

    /// Puts `events` in.
    pub fn put<In, Out>(&self, subject: &Subject<In, Out>, sender: &Sender<In>, events: impl IntoIterator<Item = Event>)
    where
        In: Send + 'static,
        Out: Send + 'static,
    {
        for event in events {
            // What is refused, because the operator has ended early, comes back and is dropped here.
            match event {
                Event::Item(value) => drop(sender.send((subject.wrap)(self.census.item(value)))),
                Event::Error(number) => drop(sender.send_error(put_in(number))),
            }
        }
    }

    /// What every case ends with: `join` returns, all threads are gone, all items are accounted for, and every item was dropped
    /// exactly once.
    ///
    /// All streams and senders must have been dropped by now.
    pub fn close(self) -> Closed {
        let Self { pipeline, clock: _, census, name } = self;
        let report = pipeline.join();
        threads::wait_until_gone(&name);
        books::check(&report).unwrap_or_else(|what| panic!("the report does not balance: {what}"));
        let closed = Closed {
            abandoned: report.stages.iter().map(|stage| stage.abandoned()).sum(),
            outcome: Ended::of(&report),
        };
        // The cause of a cancellation may hold an error, and that an item.
        drop(report);
        census.check().unwrap_or_else(|what| panic!("{what}"));
        closed
    }
}

/// What is left to look at when a case has been closed.
pub struct Closed {
    pub abandoned: u64,
    pub outcome: Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Completed,
    Drained,
    Cancelled,
    /// A part of it was cut, by a token of its own.
    Cut,
}

impl Ended {
    fn of(report: &Report) -> Self {
        match report.outcome {
            Outcome::Completed => Ended::Completed,
            Outcome::Drained => Ended::Drained,
            Outcome::Cancelled(_) => Ended::Cancelled,
            Outcome::Cut(_) => Ended::Cut,
            ref other => panic!("a pipeline that was joined is {other}"),
        }
    }
}

impl<Out: Send + 'static> Output<Out> {
    fn note(&mut self, item: Result<Out, StreamError>) -> Seen {
        match item {
            Ok(item) => (self.seen)(&item),
            Err(error) => {
                let seen = Seen::error(&error);
                self.errors.push(error);
                seen
            }
        }
    }

    /// The next thing in the stream; waits for it. `None` at its end.
    pub fn next(&mut self) -> Option<Seen> {
        let item = self.stream.recv()?;
        Some(self.note(item))
    }

    /// What is there now.
    pub fn now(&mut self) -> Result<Seen, TryRecvError> {
        let item = self.stream.try_recv()?;
        Ok(self.note(item))
    }

    /// All that is there now.
    pub fn all_now(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.now().ok()).collect()
    }

    /// Everything up to the end.
    pub fn rest(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// Reads the output to its end, which must say that it was cut.
    pub fn expect_cut(&mut self) {
        let rest = self.rest();
        assert!(rest.last().is_some_and(Seen::is_cut), "a cut stream must end with an error that says so: {rest:?}");
        let cuts = rest.iter().filter(|seen| seen.is_cut()).count();
        assert_eq!(cuts, 1, "a cut stream says so once: {rest:?}");
    }
}

/// Sends `events` through the operator and returns its output, with the error items in and out.
pub fn put_through<In, Out>(
    subject: &Arc<Subject<In, Out>>,
    time: Time,
    capacity: usize,
    faults: Faults,
    events: &[Event],
) -> (Vec<Seen>, Vec<StreamError>, Vec<StreamError>)
where
    In: Send + 'static,
    Out: Send + 'static,
{
    let rig = Rig::new(time, capacity);
    let (sender, mut output) = rig.fed_by_hand(subject, faults, events.len());
    let (census, wrap) = (rig.census.clone(), subject.wrap);
    let (input, errors_in) = (events.to_vec(), made(events));
    let mut errors = errors_in.clone().into_iter();
    // Beside the reader: an operator may make its input smaller.
    rig.pipeline.spawn("feeder", move |_| {
        for event in input {
            match event {
                Event::Item(value) => drop(sender.send(wrap(census.item(value)))),
                Event::Error(_) => drop(errors.next().map(|error| sender.send_error(error))),
            }
        }
    });
    let seen = output.rest();
    let errors_out = std::mem::take(&mut output.errors);
    drop(output);
    // The errors hold items, and the case is not closed before those are dropped.
    errors_out.iter().for_each(take_everything);
    let closed = rig.close();
    assert_eq!(closed.outcome, Ended::Completed);
    assert_eq!(closed.abandoned, if subject.ends_early { closed.abandoned } else { 0 });
    (seen, errors_in, errors_out)
}

/// The errors among `events`.
fn made(events: &[Event]) -> Vec<StreamError> {
    let error = |event: &Event| match *event {
        Event::Error(number) => Some(put_in(number)),
        Event::Item(_) => None,
    };
    events.iter().filter_map(error).collect()
}

/// Empties an error that is kept beyond its case.
fn take_everything(error: &StreamError) {
    use crate::common::faults::Refused;
    use crate::common::item::Item;
    drop(error.take_item::<Item>());
    drop(error.take_item::<Vec<Item>>());
    drop(error.take_item::<Result<Item, Refused>>());
}
