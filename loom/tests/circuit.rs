//! The argument of `src/operators/resilience/circuit_sign.rs`, in every interleaving.

use streamz_loom::circuit;

#[test]
fn a_call_is_rejected_by_the_opening_that_it_has_read() {
    circuit::a_call_is_rejected_by_the_opening_that_it_has_read(3);
}

#[test]
fn a_call_after_the_opening_is_rejected() {
    circuit::a_call_after_the_opening_is_rejected(3);
}
