//! The items of a foreign channel.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::panic::{Guarded, Held, guard_drop};
use crate::pipeline::CancelToken;
use crate::pipeline::recording::Stamper;
use crate::stage::input::{Foreign, Input};
use crate::stream::Stream;
use crate::stream::start::Registered;

impl<T: Send + 'static> Stream<T> {
    /// Reads a crossbeam channel. The first stage reads the channel directly, without a thread in between.
    ///
    /// The stream ends when all senders of the channel are gone, and counts as complete: the channel cannot say why they
    /// are gone. If that matters, send the reason as a last item, or feed the stream with a
    /// [`Sender`](crate::Sender), which cuts it when its thread panics. For a channel made by
    /// [`into_receiver`](Stream::into_receiver), see [`StreamReceiver::cut`](crate::StreamReceiver::cut). A drain ends the
    /// stream at once: what is in the channel then stays there.
    ///
    /// The [age](crate::StageReport::age) of an item begins when it is taken from the channel: how long it was in there, the channel
    /// does not tell.
    ///
    /// # Panics
    /// If `cancel` belongs to no pipeline, or to one that has finished.
    #[track_caller]
    pub fn from_receiver(cancel: &CancelToken, receiver: Receiver<T>) -> Self {
        let Registered { token, stats, .. } = Registered::source(cancel, "receiver", 0);
        let feeder = Arc::clone(&stats.name);
        let scope = Arc::clone(token.scope());
        let stamper = Stamper::new(&stats, token.clock());
        let receiver = Guarded::new(receiver, guard_drop);
        let foreign = Foreign { receiver, scope, stats, stamper, stamp: None, ahead: Held::default() };
        Self::from_input(Input::Foreign(foreign), token, feeder)
    }
}

#[cfg(all(test, feature = "latency"))]
mod tests {
    use super::*;
    use crate::edge::Polled;
    use crate::{Latencies, ManualClock, Pipeline};

    #[test]
    fn a_stamp_does_not_wait_for_the_next_item() {
        let clock = ManualClock::new();
        let pipeline = Pipeline::builder("stamped").clock(&clock).latencies(Latencies::all()).build();
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let mut input = Stream::from_receiver(&pipeline, receiver).into_input();
        sender.send(1).unwrap();
        assert!(matches!(input.poll(), Polled::Item(Ok(1))));
        assert_eq!([input.has_items(), input.may_have_items(), input.ask()], [true; 3]);
        assert!(matches!(input.poll(), Polled::Item(Err(error)) if error.is_mark()));
        assert_eq!([input.has_items(), input.may_have_items(), input.ask()], [false; 3]);
        assert!(matches!(input.poll(), Polled::Empty));
    }
}
