//! The results of the examples.

use streamz::delivery::{Failure, Outbox};
use streamz_kafka::NewRecord;

use crate::common::{Cluster, GROUP, TOPIC, fetch_all};

#[path = "../../examples/kafka_orders.rs"]
#[expect(dead_code, reason = "its `main` is not called")]
mod orders;

#[test]
fn orders_are_billed_or_put_aside() {
    let cluster = Cluster::with_topic(2);
    let new = |total: &str, key: &str| NewRecord::new(total).with_key(key);
    let mut batch = vec![new("9.9", "ann"), new("much", "bob"), new("4.5", "ann"), new("12", "cid")];
    cluster.outbox(TOPIC).write(&mut batch).unwrap();
    let bounded = || cluster.inbox(TOPIC, GROUP).bounded(true).connect().unwrap();
    assert_eq!(orders::bill(cluster.servers(), bounded()).unwrap(), 3);
    assert_eq!(cluster.lag(TOPIC, GROUP), 0);

    let read = |topic, count| {
        let mut inbox = cluster.inbox(topic, topic).connect().unwrap();
        fetch_all(&mut inbox, count).into_iter().map(|got| got.record).collect::<Vec<_>>()
    };
    let invoices = read("invoices", 3);
    let of = |key: &[u8]| {
        let of_key = invoices.iter().filter(|it| it.key() == Some(key));
        of_key.map(|it| str::from_utf8(it.payload().unwrap()).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((of(b"ann"), of(b"cid")), (vec!["please pay 9.90", "please pay 4.50"], vec!["please pay 12.00"]));
    assert!(invoices.iter().all(|it| it.header("invoice").is_some()));
    let dead = read("orders-dead", 1);
    let failure = Failure::read(&dead[0]).unwrap();
    assert_eq!((dead[0].key(), dead[0].payload()), (Some(&b"bob"[..]), Some(&b"much"[..])));
    assert_eq!((&*failure.stage, &*failure.reason), ("invoice", "invalid float literal"));
    // Everything has been billed.
    assert_eq!(orders::bill(cluster.servers(), bounded()).unwrap(), 0);
}
