//! What a call reads of a circuit without its lock.

use std::time::{Duration, Instant};

use loom::thread;

use crate::circuit_sign::{Rule, Sign};
use crate::models::check;
use crate::sync::Arc;

const SECOND: Duration = Duration::from_secs(1);

/// Any time: the model adds to it, and waits for nothing.
#[allow(clippy::disallowed_methods)]
fn base() -> Instant {
    Instant::now()
}

/// The circuit opens for a second, is half-open, and opens again until the third second. A call in the second second may be
/// rejected by the second opening only: by then the first one has ended.
pub fn a_call_is_rejected_by_the_opening_that_it_has_read(preemptions: usize) {
    let base = base();
    check(preemptions, move || {
        let sign = Arc::new(Sign::new(base));
        let shown = Arc::clone(&sign);
        let circuit = thread::spawn(move || {
            shown.show(1, Rule::Reject(Some(base + SECOND)));
            shown.show(2, Rule::Ask);
            shown.show(3, Rule::Reject(Some(base + 3 * SECOND)));
        });
        let read = Arc::clone(&sign);
        let call = thread::spawn(move || {
            let reading = read.read();
            if read.rejects(reading, || base + 2 * SECOND) {
                assert_eq!(reading.generation(), 3);
            }
        });
        call.join().unwrap();
        circuit.join().unwrap();
        assert!(sign.rejects(sign.read(), || base + 2 * SECOND));
    });
}

/// A circuit that has been opened by force rejects from then on.
pub fn a_call_after_the_opening_is_rejected(preemptions: usize) {
    let base = base();
    check(preemptions, move || {
        let sign = Arc::new(Sign::new(base));
        sign.show(1, Rule::Admit { steady: true });
        let shown = Arc::clone(&sign);
        let circuit = thread::spawn(move || shown.show(2, Rule::Reject(None)));
        let read = Arc::clone(&sign);
        let call = thread::spawn(move || {
            let reading = read.read();
            // It has read one of the two rules; otherwise it asks the state.
            assert_eq!(reading.admits(), reading.generation() == 1);
            assert_eq!(read.rejects(reading, || base), reading.generation() == 2);
        });
        call.join().unwrap();
        circuit.join().unwrap();
        let reading = sign.read();
        assert!(!reading.admits() && sign.rejects(reading, || base));
    });
}
