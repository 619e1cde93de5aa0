//! Reads orders from a topic, writes an invoice for each to another topic, and stores invalid orders in a third.
//!
//! ```sh
//! kafka-console-producer --bootstrap-server localhost:9092 --topic orders   # 9.90
//! cargo run --manifest-path connectors/kafka/Cargo.toml --example kafka_orders -- localhost:9092
//! ```
//!
//! Start it on as many machines as the topic has partitions, and they share the orders. After Ctrl-C or `kill -9`,
//! another process finishes the orders that were in flight, or this one does when it starts again. With `--once` it
//! ends when it has billed the existing orders.

use std::error::Error;

use streamz::delivery::DeliveryConfig;
use streamz::{BatchConfig, Mapper, Pipeline, Stream};
use streamz_kafka::{KafkaInbox, KafkaOutbox, NewRecord, Record};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(brokers) = arguments.next() else {
        println!("usage: orders BROKERS [--once]");
        return Ok(());
    };
    let once = arguments.next().is_some_and(|argument| argument == "--once");
    let orders = KafkaInbox::builder(&*brokers, "orders", "billing").bounded(once).connect()?;
    let count = bill(&brokers, orders)?;
    println!("{count} invoices");
    Ok(())
}

/// Returns the number of invoices written, when the orders end.
pub(crate) fn bill(brokers: &str, orders: KafkaInbox) -> Result<u64, Box<dyn Error>> {
    let invoices = KafkaOutbox::builder(brokers, "invoices").connect()?;
    let dead = KafkaOutbox::builder(brokers, "orders-dead").connect()?;

    let pipeline = Pipeline::new("billing");
    let (invoiced, failed) = Stream::deliver(&pipeline, orders, DeliveryConfig::default())?
        .through(&Mapper::fallible(invoice).with_name("invoice"))
        .dead_letters();

    // Both streams must be read, so each has a thread.
    let token = pipeline.token();
    pipeline.spawn("dead letters", move |_| {
        // A dead letter is the order, with headers that say why it failed.
        if let Err(error) = failed.into_records::<Record>().deliver_to(dead, BatchConfig::default()) {
            eprintln!("cannot write the dead letters: {error}");
            token.cancel();
        }
    });
    // An order is acknowledged when the brokers have confirmed its invoice.
    let count = invoiced.deliver_to(invoices, BatchConfig::default())?;
    pipeline.join();
    Ok(count)
}

fn invoice(order: &Record) -> Result<NewRecord, Box<dyn Error + Send + Sync>> {
    let text = std::str::from_utf8(order.payload().ok_or("no payload")?)?;
    let total: f64 = text.trim().parse()?;
    // The order may be redelivered after a crash. Its invoice then has the same number, so that readers can detect the
    // repetition.
    let number = format!("{}-{}", order.partition(), order.offset());
    let invoice = NewRecord::new(format!("please pay {total:.2}")).with_header("invoice", number);
    // With the same key, the invoices of a customer stay in order.
    Ok(if let Some(key) = order.key() { invoice.with_key(key) } else { invoice })
}
