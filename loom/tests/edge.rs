//! The invariants of `src/edge/mod.rs`, in every interleaving. Several senders: `senders.rs`.

use streamz_loom::models::{self, Mode};

const MODES: [Mode; 3] = [Mode::Lazy, Mode::Eager, Mode::AtOnce];

fn in_each_mode(capacities: &[usize], model: impl Fn(usize, Mode)) {
    for mode in MODES {
        capacities.iter().for_each(|capacity| model(*capacity, mode));
    }
}

#[test]
fn all_arrive() {
    in_each_mode(&[0, 1, 2, 3], |capacity, mode| models::all_arrive(capacity, mode, 3, 2));
}

#[test]
fn a_call_may_emit_more_than_there_is_room_for() {
    in_each_mode(&[0, 1, 2], |capacity, mode| {
        models::a_call_may_emit_more_than_there_is_room_for(capacity, mode, 3, 2);
    });
}

#[test]
fn an_operator_that_asks_first_is_never_stuck() {
    in_each_mode(&[0, 1, 2], |capacity, mode| models::an_operator_that_asks_first_is_never_stuck(capacity, mode, 3, 2));
}

#[test]
fn no_item_waits_while_its_producer_blocks() {
    in_each_mode(&[0, 1, 2], |capacity, mode| models::no_item_waits_while_its_producer_blocks(capacity, mode, 2));
}

#[test]
fn no_room_is_kept_while_the_consumer_blocks() {
    for taken in [1, 2] {
        in_each_mode(&[1, 2], |capacity, mode| {
            models::no_room_is_kept_while_the_consumer_blocks(capacity, mode, taken, 2);
        });
    }
}

#[test]
fn a_hungry_consumer_is_served_after_the_call() {
    models::a_hungry_consumer_is_served_after_the_call(2);
}

#[test]
fn the_counts_add_up_when_the_consumer_leaves() {
    for taken in [0, 1] {
        in_each_mode(&[0, 1, 2], |capacity, mode| {
            models::the_counts_add_up_when_the_consumer_leaves(capacity, mode, 3, taken, 2);
        });
    }
}

#[test]
fn a_cut_counts_every_lost_item() {
    in_each_mode(&[0, 1, 2], |capacity, mode| models::a_cut_counts_every_lost_item(capacity, mode, 3, 2));
}

#[test]
fn the_capacity_may_change() {
    for (from, to) in [(0, 1), (1, 2), (2, 1), (1, 0), (2, 0)] {
        in_each_mode(&[from], |from, mode| models::the_capacity_may_change(from, to, mode, 3, 2));
    }
}

#[test]
fn a_new_item_evicts_the_oldest() {
    _ = [1, 2].map(|capacity| models::a_new_item_evicts_the_oldest(capacity, 3, 2));
}

#[test]
fn errors_are_never_evicted() {
    for stays in [true, false] {
        _ = [1, 2].map(|capacity| models::errors_are_never_evicted(capacity, stays, 2));
    }
}
