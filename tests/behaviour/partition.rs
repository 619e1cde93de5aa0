//! `Partition`: the same key always to the same place, and numbers that say how even it is.

use std::collections::BTreeMap;
use std::time::Duration;

use streamz::{
    BatchConfig, Batcher, ErrorKind, ManualClock, Mapper, Partition, Pipeline, Processor, Stream, StreamError,
};

fn counts(partitions: Vec<Stream<u64>>) -> Vec<u64> {
    let (sender, counts) = std::sync::mpsc::channel();
    for (index, partition) in partitions.into_iter().enumerate() {
        let sender = sender.clone();
        partition.spawn_for_each(move |item| sender.send((index, item.unwrap())).unwrap());
    }
    drop(sender);
    let mut all = BTreeMap::new();
    counts.into_iter().for_each(|(index, _)| *all.entry(index).or_insert(0) += 1);
    all.into_values().collect()
}

#[test]
fn a_key_goes_to_the_same_partition_in_order_in_every_run() {
    let partition = Partition::new(|(key, _): &(u64, u64)| *key).with_partitions(3);
    let mut places = BTreeMap::new();
    for _ in 0..2 {
        let pipeline = Pipeline::builder("partition").capacity(10_000).build();
        let items = (0..3_000).map(|n| (n % 17, n));
        let output = partition.process(&pipeline, Stream::from_iter(&pipeline, items));
        for (index, stream) in output.partitions.into_iter().enumerate() {
            let mut last = BTreeMap::new();
            for (key, n) in stream.collect::<Vec<_>>().unwrap() {
                assert_eq!(*places.entry(key).or_insert(index), index, "key {key}");
                assert!(last.insert(key, n).is_none_or(|before| before < n), "key {key}");
            }
        }
        assert!(pipeline.join().is_complete());
    }
    assert_eq!(places.len(), 17);
    assert_eq!(partition.stats().total_items(), 6_000);
}

#[test]
fn keys_that_are_borrowed_go_where_owned_ones_go() {
    let words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"].map(String::from);
    let place = |by_ref: bool| {
        let pipeline = Pipeline::new("partition");
        let input = Stream::from_iter(&pipeline, words.clone());
        let partitions = if by_ref {
            Partition::by_ref(|word: &String| word.as_str()).process(&pipeline, input).partitions
        } else {
            Partition::new(|word: &String| word.clone()).process(&pipeline, input).partitions
        };
        partitions.into_iter().map(|partition| partition.collect::<Vec<_>>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(place(true), place(false));
}

#[test]
fn statistics_before_during_and_after_a_run() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("partition").clock(&clock).capacity(100).build();
    let partition = Partition::new(|n: &u64| *n).with_partitions(2).with_partitioner(|n, _| usize::from(*n >= 3));
    let stats = partition.stats();
    assert_eq!((stats.num_partitions(), stats.total_items(), stats.distribution_balance()), (2, 0, 0.0));
    assert_eq!(stats.items_per_partition(), [0, 0]);
    let (sender, input) = Stream::channel(&pipeline, 100);
    let output = partition.process(&pipeline, input);
    (0..4).for_each(|n| sender.send(n).unwrap());
    clock.settle();
    // 3 and 1: the mean is 2, the standard deviation 1.
    assert_eq!((stats.items_per_partition(), stats.distribution_balance()), (vec![3, 1], 0.5));
    (4..6).for_each(|n| sender.send(n).unwrap());
    drop(sender);
    clock.settle();
    drop(output.partitions);
    pipeline.join();
    assert_eq!((stats.items_per_partition(), stats.distribution_balance()), (vec![3, 3], 0.0));
    assert_eq!((output.stats.total_items(), output.stats.undeliverable()), (6, vec![3, 3]));
}

#[test]
fn the_balance_is_the_standard_deviation_over_the_mean() {
    // Everything in one of four: the square root of 3. Evenly spread by chance: next to nothing.
    for (partitioner, low, high) in [(true, 1.732, 1.7321), (false, 0.0, 0.05)] {
        let pipeline = Pipeline::new("partition");
        let partition = Partition::new(|n: &u64| *n);
        let input = Stream::from_iter(&pipeline, 0..20_000);
        let balance = if partitioner {
            let partition = partition.with_partitioner(|_, _| 2);
            counts(partition.process(&pipeline, input).partitions);
            partition.stats().distribution_balance()
        } else {
            assert_eq!(counts(partition.process(&pipeline, input).partitions).iter().sum::<u64>(), 20_000);
            partition.stats().distribution_balance()
        };
        assert!((low..high).contains(&balance), "{balance}");
    }
}

#[test]
fn bad_indexes_and_panicking_keys_fail_in_partition_0() {
    let pipeline = Pipeline::new("partition");
    let key = |n: &u64| if *n == 7 { panic!("seven") } else { *n };
    let partition = Partition::new(key).with_partitions(2).with_partitioner(|n, partitions| {
        assert_eq!(partitions, 2);
        if *n == 5 { 2 } else { 1 }
    });
    let (sender, input) = Stream::channel(&pipeline, 16);
    (0..10).for_each(|n| sender.send(n).unwrap());
    sender.send_error(StreamError::new(ErrorKind::Failed, "origin")).unwrap();
    drop(sender);
    let mut partitions = partition.process(&pipeline, input).partitions.into_iter();
    let errors: Vec<StreamError> = partitions.next().unwrap().into_iter().map(Result::unwrap_err).collect();
    let [no_such, panicked, passed] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!((no_such.kind(), no_such.take_item::<u64>()), (ErrorKind::Failed, Some(5)));
    let reason = std::error::Error::source(no_such).unwrap().to_string();
    assert_eq!(reason, "there is no partition 2: there are 2, counted from 0");
    assert_eq!((panicked.kind(), panicked.take_item::<u64>()), (ErrorKind::Panicked, Some(7)));
    assert_eq!(passed.stage(), "origin");
    assert_eq!(partitions.next().unwrap().count().unwrap(), 8);
    assert_eq!(partition.stats().failed(), 2);
}

#[test]
fn each_partitions_processes_and_merges_as_one_processor() {
    let pipeline = Pipeline::new("partition");
    let sums = Partition::new(|n: &u64| n % 8).with_partitions(3).each(|index| {
        let hundreds = Batcher::new(BatchConfig { max_size: 100, max_latency: Duration::MAX });
        hundreds.then(Mapper::new(move |batch: Vec<u64>| (index, batch.iter().sum::<u64>())))
    });
    let merged = Stream::from_iter(&pipeline, 0..10_000).through(&sums).collect::<Vec<_>>().unwrap();
    assert_eq!(merged.iter().map(|(_, sum)| sum).sum::<u64>(), (0..10_000).sum());
    assert!(pipeline.join().is_complete());
    assert_eq!(sums.stats().total_items(), 10_000);
}

#[test]
fn a_seed_moves_keys_and_consistent_hashing_is_stable() {
    let place = |seed, consistent| {
        let pipeline = Pipeline::builder("partition").capacity(1_000).build();
        let mut partition = Partition::new(|n: &u64| *n).with_seed(seed);
        if consistent {
            partition = partition.with_consistent_hashing();
        }
        let partitions = partition.process(&pipeline, Stream::from_iter(&pipeline, 0..100)).partitions;
        partitions.into_iter().map(|one| one.collect::<Vec<_>>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(place(1, true), place(1, true));
    assert_ne!(place(1, false), place(2, false));
    assert_ne!(place(1, false), place(1, true));
}

#[test]
fn a_dropped_partition_blocks_none_and_an_unread_one_is_named() {
    let clock = ManualClock::new();
    let pipeline = Pipeline::builder("partition").clock(&clock).capacity(2).build();
    let partition = Partition::new(|n: &u64| *n).with_partitions(3).with_partitioner(|n, _| (n % 3) as usize);
    let mut partitions = partition.process(&pipeline, Stream::from_iter(&pipeline, 0..)).partitions.into_iter();
    drop(partitions.next());
    let unread = partitions.next();
    partitions.next().unwrap().spawn_for_each(drop);
    clock.settle();
    assert_eq!(partition.stats().blocking(), [1]);
    pipeline.abort();
    drop(unread);
}

#[test]
#[should_panic(expected = "`partitions` must be at least 1")]
fn no_partitions_are_refused() {
    let _ = Partition::new(|n: &u64| *n).with_partitions(0);
}
