//! Shares the orders of a stream among all processes that run this, and writes an invoice for each to another stream.
//!
//! ```sh
//! redis-cli XADD orders '*' customer 17 total 9.90
//! cargo run -p streamz-redis --example redis_orders -- redis://localhost billing-1
//! ```
//!
//! After Ctrl-C or `kill -9`, another process finishes the remaining orders, or this one does when it is restarted.

use std::error::Error;

use streamz::delivery::DeliveryConfig;
use streamz::{BatchConfig, Pipeline, Stream};
use streamz_redis::{Fields, RedisInbox, RedisOutbox};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(url) = arguments.next() else {
        println!("usage: orders URL [CONSUMER]");
        return Ok(());
    };
    let consumer = arguments.next().unwrap_or_else(|| "billing-1".to_owned());

    let inbox = RedisInbox::builder(&*url, "orders", "billing").consumer(consumer).connect()?;
    let invoices = RedisOutbox::builder(&*url, "invoices").max_len(1_000_000).connect()?;
    for status in inbox.monitor().status()? {
        println!("{}: {:?} orders to do, {} in flight", status.stream, status.backlog, status.in_flight);
    }

    let pipeline = Pipeline::new("billing");
    Stream::deliver(&pipeline, inbox, DeliveryConfig::default())?
        .filter_map(|order| {
            let Some(total) = order.get("total") else {
                // It would fail the next time, too, so it counts as processed.
                eprintln!("{} has no total", order.id);
                return None;
            };
            println!("{}: {}", order.id, total.escape_ascii());
            // The ID is the same each time, so that readers can detect a repetition.
            Some(Fields::new().with("order", order.id.to_string()).with("total", total))
        })
        // An order is acknowledged when its invoice has been written.
        .deliver_to(invoices, BatchConfig::default())?;
    Ok(())
}
