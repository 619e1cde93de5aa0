//! A service in simulated time, and the limit that results. No thread and no clock is involved: each run is the same.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::*;

/// The distribution of a service's processing times.
#[derive(Debug, Clone, Copy)]
enum Spread {
    /// All are the mean.
    None,
    /// Between half of the mean and one and a half.
    Half,
    /// Exponential: the deviation is the mean.
    Whole,
}

/// The service from a moment on: the number of calls it processes at a time, and how long each takes.
#[derive(Debug, Clone, Copy)]
struct Service {
    from: f64,
    servers: usize,
    time: f64,
}

fn service(from: f64, servers: usize, time: f64) -> Service {
    Service { from, servers, time }
}

#[derive(Clone)]
struct Simulation {
    plan: Vec<Service>,
    spread: Spread,
    /// The maximum number of calls at a time, whatever the limit.
    workers: usize,
    /// Calls that arrive in a second; `None` if there are always more.
    arrivals: Option<f64>,
    /// A fixed limit.
    fixed: Option<usize>,
    seed: u64,
}

/// The observations of a second.
#[derive(Debug, Clone)]
struct Second {
    limit: usize,
    latencies: Vec<f64>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// The call with this number is finished.
    Finished(usize),
}

impl Simulation {
    fn new(plan: &[Service]) -> Self {
        Self { plan: plan.to_vec(), spread: Spread::None, workers: 200, arrivals: None, fixed: None, seed: 1 }
    }

    fn run(&self, seconds: u32) -> Vec<Second> {
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let mut gradient = Gradient::new(4, 1, usize::MAX);
        let mut events = BinaryHeap::new();
        let (mut now, mut arrived, mut in_progress, mut busy) = (0.0, 0_u64, 0, 0);
        let mut calls: Vec<(f64, Begun)> = Vec::new();
        let mut queue = VecDeque::new();
        let mut seen = Vec::new();
        let mut latencies = Vec::new();
        let exponential = |rng: &mut fastrand::Rng| -(1.0 - rng.f64()).ln();
        let at = |moment: f64, event| Reverse(((moment * 1e9) as u64, event));
        if self.arrivals.is_some() {
            events.push(at(0.0, Event::Arrival));
        }
        while seen.len() < seconds as usize {
            let service = self.plan.iter().rfind(|service| now >= service.from).expect("a service from the start");
            let allowed = self.fixed.unwrap_or_else(|| gradient.allowed()).min(self.workers);
            while in_progress < allowed && (self.arrivals.is_none() || arrived > 0) {
                arrived = arrived.saturating_sub(1);
                in_progress += 1;
                queue.push_back(calls.len());
                calls.push((now, gradient.begin(in_progress)));
            }
            while busy < service.servers
                && let Some(call) = queue.pop_front()
            {
                busy += 1;
                let share = match self.spread {
                    Spread::None => 1.0,
                    Spread::Half => 0.5 + rng.f64(),
                    Spread::Whole => exponential(&mut rng),
                };
                events.push(at(now + service.time * share, Event::Finished(call)));
            }
            let Reverse((nanos, event)) = events.pop().expect("something is always about to happen");
            now = nanos as f64 / 1e9;
            match event {
                Event::Arrival => {
                    arrived += 1;
                    let pause = exponential(&mut rng) / self.arrivals.unwrap_or(1.0);
                    events.push(at(now + pause, Event::Arrival));
                }
                Event::Finished(call) => {
                    let (begun_at, begun) = calls[call];
                    busy -= 1;
                    in_progress -= 1;
                    latencies.push(now - begun_at);
                    gradient.succeed(begun, Duration::from_secs_f64((now - begun_at).max(0.0)));
                }
            }
            while now >= (seen.len() + 1) as f64 {
                seen.push(Second { limit: gradient.limit(), latencies: std::mem::take(&mut latencies) });
            }
        }
        seen.truncate(seconds as usize);
        seen
    }
}

fn p99(seconds: &[Second]) -> f64 {
    let mut latencies: Vec<f64> = seconds.iter().flat_map(|second| second.latencies.iter().copied()).collect();
    latencies.sort_by(f64::total_cmp);
    latencies[latencies.len() * 99 / 100]
}

#[track_caller]
fn assert_near(knee: usize, seconds: &[Second]) {
    for (index, second) in seconds.iter().enumerate() {
        let off = second.limit.abs_diff(knee);
        assert!(off * 10 <= knee, "the limit is {} after {index} s, the knee {knee}", second.limit);
    }
}

/// The mean over some time: if latencies are erratic, the limit moves around the knee.
#[track_caller]
fn assert_near_on_average(knee: usize, seconds: &[Second]) {
    let mean = seconds.iter().map(|second| second.limit as f64).sum::<f64>() / seconds.len() as f64;
    assert!((mean / knee as f64 - 1.0).abs() <= 0.1, "the limit is {mean} on average, the knee {knee}");
}

#[test]
fn settles_within_a_tenth_of_the_knee() {
    for servers in [10, 20, 50, 100] {
        let seen = Simulation::new(&[service(0.0, servers, 0.05)]).run(60);
        assert_near(servers, &seen[15..]);
    }
}

#[test]
fn settles_at_the_knee_if_latencies_are_erratic() {
    for (spread, wait) in [(Spread::Half, 15), (Spread::Whole, 60)] {
        for (servers, seed) in [(10, 1), (20, 2), (50, 3), (20, 4)] {
            let plan = [service(0.0, servers, 0.05)];
            let seen = Simulation { spread, seed, ..Simulation::new(&plan) }.run(180);
            assert_near_on_average(servers, &seen[wait..]);
        }
    }
}

#[test]
fn follows_a_service_that_loses_servers_and_gets_them_back() {
    let plan = [service(0.0, 20, 0.05), service(100.0, 10, 0.05), service(200.0, 20, 0.05)];
    let seen = Simulation { workers: 60, ..Simulation::new(&plan) }.run(300);
    assert_near(20, &seen[15..100]);
    assert_near(10, &seen[120..200]);
    assert_near(20, &seen[220..]);
    let erratic = Simulation { workers: 60, spread: Spread::Half, ..Simulation::new(&plan) }.run(300);
    assert_near_on_average(20, &erratic[15..100]);
    assert_near_on_average(10, &erratic[120..200]);
    assert_near_on_average(20, &erratic[230..]);
}

/// The knee has not moved: a limit that took the latencies for those of a queue would fall to the minimum.
#[test]
fn keeps_the_limit_of_a_service_whose_calls_take_longer() {
    let plan = [service(0.0, 20, 0.05), service(60.0, 20, 0.15), service(150.0, 20, 0.06), service(210.0, 20, 0.02)];
    let seen = Simulation { workers: 60, ..Simulation::new(&plan) }.run(270);
    for settled in [15..60, 90..150, 165..210, 225..270] {
        assert_near(20, &seen[settled]);
    }
}

#[test]
fn latencies_are_below_those_of_a_fixed_limit_that_is_too_high() {
    let plan = [service(0.0, 20, 0.05), service(60.0, 10, 0.05)];
    let simulation = Simulation { workers: 60, spread: Spread::Half, ..Simulation::new(&plan) };
    let adaptive = simulation.run(120);
    let fixed = Simulation { fixed: Some(60), ..simulation }.run(120);
    for part in [15..60, 75..120] {
        assert!(2.0 * p99(&adaptive[part.clone()]) < p99(&fixed[part]), "no more than half");
    }
    // The cost: the probes, during which the service is not busy.
    let calls = |seconds: &[Second]| seconds.iter().map(|second| second.latencies.len()).sum::<usize>();
    assert!(calls(&adaptive[15..60]) * 100 >= calls(&fixed[15..60]) * 95);
}

#[test]
fn holds_back_arrivals_that_are_more_than_the_service_can_take() {
    let plan = [service(0.0, 20, 0.05)];
    let simulation = Simulation { arrivals: Some(500.0), spread: Spread::Half, ..Simulation::new(&plan) };
    let seen = simulation.run(90);
    assert_near_on_average(20, &seen[20..]);
    assert!(p99(&seen[20..]) < 0.1);
}

#[test]
fn does_not_grow_as_long_as_the_limit_is_not_reached() {
    let plan = [service(0.0, 100, 0.05)];
    // Three calls at a time, and a limit of 4 at the start.
    let seen = Simulation { workers: 3, ..Simulation::new(&plan) }.run(60);
    assert!(seen.iter().all(|second| second.limit == 4), "{:?}", seen.last());
    // Once it is reached, it grows, but not far beyond the available capacity.
    let seen = Simulation { workers: 30, ..Simulation::new(&plan) }.run(60);
    assert!((30..=64).contains(&seen[59].limit), "{}", seen[59].limit);
}

#[test]
fn a_failure_lowers_the_limit_once_for_all_earlier_calls() {
    let mut gradient = Gradient::new(30, 1, 100);
    let begun: Vec<Begun> = (1..=30).map(|in_progress| gradient.begin(in_progress)).collect();
    for &call in &begun {
        gradient.fail(call);
        assert_eq!(gradient.limit(), 27);
    }
    let next = gradient.begin(27);
    gradient.fail(next);
    assert_eq!(gradient.limit(), 24);
    // A call that takes long and then fails started before.
    gradient.fail(begun[0]);
    assert_eq!(gradient.limit(), 24);
}

#[test]
fn failures_lower_the_limit_and_successes_raise_it_again() {
    let mut gradient = Gradient::new(30, 3, 100);
    for _ in 0..40 {
        let call = gradient.begin(1);
        gradient.fail(call);
    }
    assert_eq!(gradient.limit(), 3);
    for _ in 0..10_000 {
        let call = gradient.begin(gradient.allowed());
        gradient.succeed(call, Duration::from_millis(10));
    }
    assert_eq!(gradient.limit(), 100);
}

#[test]
fn instant_calls_raise_the_limit_to_its_maximum() {
    let mut gradient = Gradient::new(4, 1, 50);
    for _ in 0..10_000 {
        let call = gradient.begin(gradient.allowed());
        gradient.succeed(call, Duration::ZERO);
    }
    assert_eq!(gradient.limit(), 50);
}

/// Whatever the outcomes of the calls.
#[test]
fn the_limit_stays_in_bounds_and_grows_only_when_reached() {
    for seed in 0..50 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (min, max) = (rng.usize(1..10), rng.usize(10..60));
        let mut gradient = Gradient::new(rng.usize(1..80), min, max);
        let mut open: Vec<Begun> = Vec::new();
        let reaches = rng.bool();
        for _ in 0..5_000 {
            let before = gradient.limit();
            if open.len() < gradient.allowed() && rng.bool() {
                let in_progress = if reaches { gradient.allowed() } else { gradient.allowed() - 1 };
                let call = gradient.begin(in_progress);
                open.push(call);
            } else if !open.is_empty() {
                let call = open.swap_remove(rng.usize(..open.len()));
                match rng.u8(..20) {
                    0 if seed % 3 == 0 => {
                        gradient.fail(call);
                        assert!(gradient.limit() <= before, "seed {seed}");
                    }
                    _ => gradient.succeed(call, Duration::from_micros(rng.u64(..5_000))),
                }
            }
            assert!((min..=max).contains(&gradient.limit()), "seed {seed}: {gradient:?}");
            assert!((min..=gradient.limit()).contains(&gradient.allowed()), "seed {seed}: {gradient:?}");
            assert!(reaches || gradient.limit() <= before, "seed {seed}: {gradient:?}");
        }
    }
}
