//! The invariants of `src/edge/mod.rs` with several senders, in every interleaving.

use streamz_loom::models;

#[test]
fn two_senders_share_an_edge() {
    _ = [0, 1, 2].map(|capacity| models::two_senders_share_an_edge(capacity, 2, 1));
}

#[test]
fn a_sender_gives_up_and_another_is_served() {
    _ = [0, 1].map(|capacity| models::a_sender_gives_up_and_another_is_served(capacity, 2, 2));
}

#[test]
fn senders_wake_when_the_consumer_leaves() {
    _ = [0, 1].map(|capacity| models::senders_wake_when_the_consumer_leaves(capacity, 1));
}
