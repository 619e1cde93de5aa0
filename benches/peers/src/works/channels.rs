//! The bounded channels that programs written by hand may use. The programs are the same for each.

use std::sync::mpsc;
use std::sync::mpsc::{Receiver as StdReceiver, SyncSender as StdSender};

use crossbeam_channel::{Receiver as CrossbeamReceiver, Sender as CrossbeamSender};
use flume::{Receiver as FlumeReceiver, Sender as FlumeSender};
use kanal::{Receiver as KanalReceiver, Sender as KanalSender};

/// A bounded channel for threads. Where its receivers can be cloned, several threads may share it.
pub(super) trait Channel: 'static {
    type Sender<T: Send + 'static>: Clone + Send + 'static;
    type Receiver<T: Send + 'static>: Send + 'static;

    fn bounded<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>);

    /// # Panics
    /// If the receivers are gone.
    fn send<T: Send + 'static>(sender: &Self::Sender<T>, item: T);

    /// `None` when the senders are gone and the channel is empty.
    fn receive<T: Send + 'static>(receiver: &Self::Receiver<T>) -> Option<T>;

    fn iter<T: Send + 'static>(receiver: &Self::Receiver<T>) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| Self::receive(receiver))
    }
}

macro_rules! channel {
    ($name:ident: $bounded:path, $sender:ident, $receiver:ident) => {
        pub(super) struct $name;

        impl Channel for $name {
            type Sender<T: Send + 'static> = $sender<T>;
            type Receiver<T: Send + 'static> = $receiver<T>;

            fn bounded<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>) {
                $bounded(capacity)
            }

            #[inline]
            fn send<T: Send + 'static>(sender: &Self::Sender<T>, item: T) {
                sender.send(item).expect("the receiver outlives its senders");
            }

            #[inline]
            fn receive<T: Send + 'static>(receiver: &Self::Receiver<T>) -> Option<T> {
                receiver.recv().ok()
            }
        }
    };
}

channel!(Std: mpsc::sync_channel, StdSender, StdReceiver);
channel!(Crossbeam: crossbeam_channel::bounded, CrossbeamSender, CrossbeamReceiver);
channel!(Flume: flume::bounded, FlumeSender, FlumeReceiver);
channel!(Kanal: kanal::bounded, KanalSender, KanalReceiver);
