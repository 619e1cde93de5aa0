//! Bills orders without losing one: a topic, a pipeline that acknowledges, and a topic of failed orders.
//!
//! ```sh
//! cargo run -p streamz-journal --example journal_orders
//! cargo run -p streamz-journal --example journal_orders -- orders.journal
//! ```
//!
//! Without an argument, the file is a temporary one. With one, kill the program at any moment and start it again: it
//! continues with the orders that had not been billed.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use streamz::delivery::{DeliveryConfig, Failure};
use streamz::prelude::*;
use streamz_journal::{Entry, Journal, JournalInboxOptions, Record};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let directory = tempfile::tempdir()?;
    let path = std::env::args().nth(1).map_or_else(|| directory.path().join("orders.journal"), PathBuf::from);
    let journal = Journal::open(path)?;

    // A shop does this, in its own process.
    let orders: Vec<_> =
        (1..=1_000).map(|n| Record::new(format!("{}", n % 331)).with_key(format!("customer-{}", n % 9))).collect();
    journal.writer("orders")?.append(&orders)?;

    // `bounded` ends at the newest order. Without it, this would wait for more.
    let options = JournalInboxOptions::new().consumer("billing").take_over(true).bounded(true);
    let inbox = journal.inbox("orders", "billing", options)?;

    let pipeline = Pipeline::new("billing");
    let (bills, failures) = Stream::deliver(&pipeline, inbox, DeliveryConfig::default())?
        .through(&AsyncMapper::new(|_: &CancelToken, order: &Entry| bill(order)).with_workers(4))
        .dead_letters();
    let batches = BatchConfig { max_size: 100, max_latency: Duration::from_millis(50) };
    // A failed order is acknowledged when it has been written to another topic, with the reason in its headers.
    let (put_aside, limits) = (journal.writer("orders.failed")?, batches.clone());
    pipeline.spawn("failed orders", move |_| {
        if let Err(error) = failures.into_records::<Entry>().deliver_to(put_aside, limits) {
            eprintln!("cannot store failed orders: {error}");
        }
    });
    // A billed order is acknowledged when its bill has been written to a topic, too.
    let billed = bills.deliver_to(journal.writer("bills")?, batches)?;
    println!("{}", pipeline.join());

    println!("billed in this run: {billed}");
    for order in journal.read("orders.failed", 0, 3)? {
        if let Some(failure) = Failure::read(&order) {
            println!("failed: order {}: {}", failure.position, failure.reason);
        }
    }
    for topic in journal.status()? {
        println!("topic {}: positions {} to {}", topic.topic, topic.first, topic.next - 1);
        for group in topic.groups {
            let (backlog, in_flight, acknowledged) = (group.backlog, group.in_flight, group.acknowledged);
            println!("  group {}: backlog {backlog}, in flight {in_flight}, acknowledged {acknowledged}", group.group);
        }
    }
    Ok(())
}

fn bill(order: &Entry) -> Result<Record, Box<dyn Error + Send + Sync>> {
    match std::str::from_utf8(&order.payload)?.parse()? {
        0u64 => Err("nothing to pay".into()),
        euros => Ok(Record::new(format!("order {}: {euros} euros", order.position)).with_key(order.key.clone())),
    }
}
