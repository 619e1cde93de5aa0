//! The invariants of `src/operators/pool/lead.rs`, in every interleaving.

use streamz_loom::par_fold::{self, Scene};

const SCENE: Scene = Scene { workers: 2, items: 3, run: 1, mark: None, fatal: None };

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
fn a_mark_waits_for_all_runs_before_it() {
    for mark in 0..3 {
        par_fold::every_item_is_processed_once(Scene { mark: Some(mark), ..SCENE }, 3);
        par_fold::every_item_is_processed_once(Scene { mark: Some(mark), workers: 3, ..SCENE }, 2);
    }
    par_fold::every_item_is_processed_once(Scene { mark: Some(1), run: 2, ..SCENE }, 3);
}

#[test]
fn a_stop_reaches_all_workers() {
    par_fold::every_item_is_processed_once(Scene { fatal: Some(1), ..SCENE }, 3);
    par_fold::every_item_is_processed_once(Scene { fatal: Some(0), mark: Some(1), workers: 3, ..SCENE }, 2);
}
