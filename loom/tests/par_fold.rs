//! The invariants of `src/operators/pool/lead.rs`, in every interleaving.

use streamz_loom::par_fold::{self, Scene};

const SCENE: Scene = Scene { workers: 2, items: 3, run: 1, slow: None, fatal: None };

#[test]
fn two_workers_take_turns() {
    par_fold::every_item_is_processed_once(SCENE, 3);
    par_fold::every_item_is_processed_once(Scene { run: 2, ..SCENE }, 3);
}

#[test]
fn three_workers_take_turns() {
    par_fold::every_item_is_processed_once(Scene { workers: 3, ..SCENE }, 2);
}

#[test]
fn the_others_take_turns_during_a_slow_item() {
    for slow in 0..3 {
        par_fold::every_item_is_processed_once(Scene { slow: Some(slow), ..SCENE }, 3);
        par_fold::every_item_is_processed_once(Scene { slow: Some(slow), workers: 3, ..SCENE }, 2);
    }
}

#[test]
fn a_stop_reaches_all_workers() {
    par_fold::every_item_is_processed_once(Scene { fatal: Some(1), ..SCENE }, 3);
    par_fold::every_item_is_processed_once(Scene { fatal: Some(0), workers: 3, ..SCENE }, 2);
}
