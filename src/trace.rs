//! The library's log: to `tracing`, if that feature is on and there is a subscriber, otherwise to `log`.
//!
//! Everything that is logged goes through [`event`], whose fields only `tracing` sees. Information that only a
//! subscriber needs goes through [`note`] and [`Span`], which do nothing without the feature. None of it is called for
//! an item.
//!
//! The feature may be enabled by a crate other than the one that reads the log. So `log` keeps its records, word for
//! word, if there is no subscriber. The feature `log` of `tracing` would do much the same, but would add the fields to
//! the text, and records for each span; and if a single thread had a subscriber for a moment, all others would be
//! silent afterwards.

#[cfg(feature = "tracing")]
pub(crate) use with_tracing::{Span, is_on};
#[cfg(not(feature = "tracing"))]
pub(crate) use without::{Span, is_on};

/// Logs an event that is always worth a line: `event!(warn, { stage = %name }, "streamz: `{name}` is not read")`.
macro_rules! event {
    ($level:ident, { $($fields:tt)+ }, $($text:tt)+) => {
        if $crate::trace::is_on() {
            $crate::trace::tell!($level, { $($fields)+ }, $($text)+);
        } else {
            ::log::$level!($($text)+);
        }
    };
}

/// Sends an event only to a subscriber of `tracing`.
macro_rules! note {
    ($level:ident, { $($fields:tt)+ }, $($text:tt)+) => {
        if $crate::trace::is_on() {
            $crate::trace::tell!($level, { $($fields)+ }, $($text)+);
        }
    };
}

#[cfg(feature = "tracing")]
macro_rules! tell {
    ($level:ident, { $($fields:tt)+ }, $($text:tt)+) => {
        ::tracing::$level!({ $($fields)+ }, $($text)+)
    };
}

#[cfg(not(feature = "tracing"))]
macro_rules! tell {
    ($level:ident, { $($name:ident = $(%)? $value:expr),+ }, $($text:tt)+) => {{
        $(_ = &$value;)+
        _ = ::std::format_args!($($text)+);
    }};
}

pub(crate) use {event, note, tell};

#[cfg(feature = "tracing")]
mod with_tracing {
    use tracing::Dispatch;
    use tracing::level_filters::LevelFilter;
    use tracing::subscriber::NoSubscriber;

    /// Whether the calling thread has a subscriber: its own, or that of the process.
    pub(crate) fn is_on() -> bool {
        // Without any subscriber the level is off, which is cheap to check.
        LevelFilter::current() != LevelFilter::OFF
            && tracing::dispatcher::get_default(|dispatch| !dispatch.is::<NoSubscriber>())
    }

    /// The span of a pipeline, and the subscriber of the thread that built it, which its threads share.
    #[derive(Debug)]
    pub(crate) struct Span(Option<(Dispatch, tracing::Span)>);

    impl Span {
        pub(crate) fn of_pipeline(name: &str) -> Self {
            Self(is_on().then(|| {
                let dispatch = tracing::dispatcher::get_default(Dispatch::clone);
                let span = tracing::info_span!("pipeline", pipeline = name);
                span.in_scope(|| tracing::info!("pipeline started"));
                (dispatch, span)
            }))
        }

        /// Runs a thread of the pipeline in its own span.
        pub(crate) fn run_thread<R>(&self, name: &str, body: impl FnOnce() -> R) -> R {
            let Some((dispatch, pipeline)) = &self.0 else { return body() };
            tracing::dispatcher::with_default(dispatch, || {
                tracing::info_span!(parent: pipeline, "thread", thread = name).in_scope(|| {
                    tracing::debug!("thread started");
                    let result = body();
                    tracing::debug!("thread stopped");
                    result
                })
            })
        }

        /// Runs code that logs about the whole pipeline, on any thread.
        pub(crate) fn run<R>(&self, body: impl FnOnce() -> R) -> R {
            match &self.0 {
                Some((dispatch, span)) => tracing::dispatcher::with_default(dispatch, || span.in_scope(body)),
                None => body(),
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod without {
    /// Never.
    #[inline(always)]
    pub(crate) fn is_on() -> bool {
        false
    }

    #[derive(Debug)]
    pub(crate) struct Span;

    impl Span {
        #[inline(always)]
        pub(crate) fn of_pipeline(_name: &str) -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn run_thread<R>(&self, _name: &str, body: impl FnOnce() -> R) -> R {
            body()
        }

        #[inline(always)]
        pub(crate) fn run<R>(&self, body: impl FnOnce() -> R) -> R {
            body()
        }
    }
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use std::fmt::{self, Write as _};
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use crate::{AsyncMapper, BoxError, CancelToken, CircuitBreaker, ManualClock, Pipeline, Stream};

    /// Keeps the name and the fields of each span, and each event with the spans around it.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        spans: Vec<(String, Option<u64>)>,
        lines: Vec<String>,
    }

    thread_local! {
        static ENTERED: std::cell::RefCell<Vec<u64>> = const { std::cell::RefCell::new(Vec::new()) };
    }

    #[derive(Default)]
    struct Fields(String);

    impl Visit for Fields {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            match field.name() {
                "message" => self.0.insert_str(0, &format!("{value:?}")),
                name => write!(self.0, " {name}={value:?}").unwrap(),
            }
        }
    }

    impl Subscriber for Seen {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, span: &Attributes<'_>) -> Id {
            let mut fields = Fields::default();
            span.record(&mut fields);
            let parent = span.parent().map(Id::into_u64);
            let parent = parent.or_else(|| ENTERED.with_borrow(|entered| entered.last().copied()));
            let mut state = self.0.lock();
            state.spans.push((format!("{}:{}", span.metadata().name(), fields.0), parent));
            Id::from_u64(state.spans.len() as u64)
        }

        fn event(&self, event: &Event<'_>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            let mut state = self.0.lock();
            let mut line = format!("{}: {}", event.metadata().level(), fields.0);
            let mut span = ENTERED.with_borrow(|entered| entered.last().copied());
            while let Some(id) = span {
                let (name, parent) = &state.spans[id as usize - 1];
                write!(line, " < {name}").unwrap();
                span = *parent;
            }
            state.lines.push(line);
        }

        fn enter(&self, span: &Id) {
            ENTERED.with_borrow_mut(|entered| entered.push(span.into_u64()));
        }

        fn exit(&self, _: &Id) {
            ENTERED.with_borrow_mut(|entered| _ = entered.pop());
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}
    }

    /// Returns what is logged while it runs.
    fn said(run: impl FnOnce()) -> Vec<String> {
        let seen = Seen::default();
        tracing::subscriber::with_default(seen.clone(), run);
        let state = std::mem::take(&mut *seen.0.lock());
        state.lines
    }

    #[test]
    fn a_pipeline_and_its_threads_have_spans() {
        let lines = said(|| {
            let pipeline = Pipeline::new("traced");
            let numbers = Stream::from_iter(&pipeline, [1_u32]);
            let seen = numbers.tap(|n: &u32| tracing::info!(n, "seen by a closure")).named("look");
            seen.named("store").spawn_for_each(drop);
            pipeline.join();
        });
        let of = |text: &str| lines.iter().filter(|line| line.contains(text)).cloned().collect::<Vec<_>>();
        let pipeline = "pipeline: pipeline=\"traced\"";
        assert_eq!(of("pipeline started"), [format!("INFO: pipeline started < {pipeline}")]);
        assert_eq!(
            of("has ended"),
            [format!("INFO: pipeline `traced` has ended pipeline=traced outcome=completed lost=0 < {pipeline}")]
        );
        let closure = of("seen by a closure");
        assert_eq!(closure.len(), 1, "{lines:#?}");
        assert!(closure[0].contains("< thread: thread=") && closure[0].ends_with(pipeline), "{closure:?}");
        let (started, stopped) = (of("thread started"), of("thread stopped"));
        assert!(started.len() >= 2 && started.len() == stopped.len(), "{lines:#?}");
        assert_eq!(*lines.last().unwrap(), of("has ended")[0], "every thread has left its span before");
    }

    #[test]
    fn a_drain_is_logged_once_and_a_loss_with_its_size() {
        let lines = said(|| {
            let clock = ManualClock::new();
            let pipeline = Pipeline::builder("drained").clock(&clock).build();
            let (input, numbers) = Stream::channel(&pipeline, 8);
            input.send(1_u32).unwrap();
            input.send(2).unwrap();
            pipeline.drain();
            pipeline.drain();
            drop(pipeline);
            drop((input, numbers));
        });
        let infos: Vec<_> = lines.iter().filter(|line| !line.starts_with("DEBUG")).collect();
        let span = "< pipeline: pipeline=\"drained\"";
        assert_eq!(infos.len(), 4, "{lines:#?}");
        assert_eq!(*infos[1], format!("INFO: pipeline `drained` drains pipeline=drained {span}"));
        assert_eq!(
            *infos[2],
            format!("INFO: pipeline `drained` has ended pipeline=drained outcome=pipeline dropped lost=2 {span}")
        );
        assert!(
            infos[3].starts_with("WARN: streamz: pipeline `drained` was dropped with 2 unprocessed items"),
            "{}",
            infos[3]
        );
        assert!(infos[3].contains(" pipeline=drained lost=2"), "{}", infos[3]);
    }

    #[test]
    fn a_breaker_reports_changes_where_they_happen() {
        let lines = said(|| {
            let pipeline = Pipeline::new("broken");
            let call = |_: &CancelToken, _: &u32| Err::<u32, BoxError>("no".into());
            let calls = AsyncMapper::new(call).with_workers(1);
            let stage = CircuitBreaker::new(calls).min_requests(1).failure_threshold(0.5).with_name("fetch");
            Stream::from_iter(&pipeline, 0..3).through(&stage).spawn_for_each(drop);
            pipeline.join();
        });
        let changes: Vec<_> = lines.iter().filter(|line| line.contains("circuit breaker")).collect();
        assert_eq!(changes.len(), 1, "{lines:#?}");
        assert!(
            changes[0].starts_with("INFO: circuit breaker: closed to open from=closed to=open < thread"),
            "{changes:?}"
        );
    }

    /// A subscriber of another thread, as in the other tests, makes no difference.
    #[test]
    fn a_thread_without_a_subscriber_logs() {
        let seen = Seen::default();
        let elsewhere = tracing::subscriber::with_default(seen, || std::thread::spawn(super::is_on).join());
        assert!(!elsewhere.unwrap());
        assert!(!super::is_on());
        tracing::subscriber::with_default(Seen::default(), || assert!(super::is_on()));
    }
}
