//! The invariants of `src/operators/pool/crew.rs`, in every interleaving.

use streamz_loom::pool::{self, Scene};

const SCENE: Scene = Scene::PLAIN;

fn in_each_pool(scene: Scene, preemptions: usize) {
    for keyed in [false, true] {
        eprintln!("{scene:?} keyed {keyed}");
        pool::no_item_waits_while_a_worker_rests(Scene { keyed, ..scene }, preemptions);
    }
}

#[test]
fn an_item_that_comes_during_a_slow_call_is_begun() {
    in_each_pool(SCENE, 3);
}

#[test]
fn the_rest_of_a_run_is_begun_during_a_slow_call() {
    in_each_pool(Scene { early: 2, run: 2, ..SCENE }, 2);
    in_each_pool(Scene { items: 3, early: 2, run: 2, ..SCENE }, 2);
}

/// The first item is finished, but its worker is in a slow call when the third comes, which has its key.
#[test]
fn the_next_of_a_key_is_begun_during_a_slow_call() {
    let scene = Scene { items: 3, first_slow: 1, keyed: true, one_key: true, ..SCENE };
    pool::no_item_waits_while_a_worker_rests(Scene { early: 2, run: 2, ..scene }, 2);
    pool::no_item_waits_while_a_worker_rests(Scene { early: 3, run: 3, ..scene }, 2);
}

#[test]
fn a_window_that_opens_is_used() {
    for ordered in [false, true] {
        in_each_pool(Scene { items: 3, early: 3, slow: 0, window: 1, ordered, ..SCENE }, 2);
        in_each_pool(Scene { items: 3, early: 3, slow: 0, run: 2, window: 2, ordered, ..SCENE }, 2);
    }
    // The slow one leaves room for one item at a time.
    in_each_pool(Scene { items: 3, early: 3, window: 2, ..SCENE }, 2);
}

#[test]
fn a_thief_leaves_another_on_watch() {
    _ = [false, true].map(|keyed| pool::a_thief_leaves_another_on_watch(keyed, 2));
}

#[test]
fn a_worker_that_waits_for_the_window_is_woken_by_its_move() {
    pool::a_worker_that_waits_for_the_window_is_woken_by_its_move(3);
}
