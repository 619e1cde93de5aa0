//! A Redis server.

use std::cell::RefCell;
use std::time::Duration;

use streamz_redis::{Fields, Record, RedisInbox, RedisMonitor, RedisOutbox, redis};

use crate::Fallible;
use crate::store::{Group, LEASE, Store};

pub(crate) struct InRedis {
    url: String,
    connection: RefCell<redis::Connection>,
    monitor: RefCell<Option<RedisMonitor>>,
}

impl InRedis {
    pub(crate) fn connect(url: &str) -> Fallible<Self> {
        let connect =
            || redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(10));
        let connection = connect()
            .map_err(|error| format!("cannot connect to {}: {error}", without_password(url)))?;
        Ok(Self {
            url: url.to_owned(),
            connection: connection.into(),
            monitor: RefCell::default(),
        })
    }
}

fn without_password(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://{}", &url[..scheme], &url[at + 1..])
        }
        _ => url.to_owned(),
    }
}

impl Store for InRedis {
    type Inbox = RedisInbox;
    type Taken = Record;
    type Outbox = RedisOutbox;
    type New = Fields;

    fn inbox(&self, topic: &str, group: &str, consumer: &str) -> Fallible<RedisInbox> {
        Ok(RedisInbox::builder(&*self.url, topic, group)
            .consumer(consumer)
            .lease(LEASE)
            .connect()?)
    }

    fn reader(&self, topic: &str) -> Fallible<RedisInbox> {
        let group = format!("reader-{}", std::process::id());
        Ok(RedisInbox::builder(&*self.url, topic, group)
            .lease(Duration::from_secs(3600))
            .connect()?)
    }

    fn outbox(&self, topic: &str) -> Fallible<RedisOutbox> {
        Ok(RedisOutbox::builder(&*self.url, topic).connect()?)
    }

    fn len(&self, topic: &str) -> Fallible<u64> {
        Ok(redis::cmd("XLEN").arg(topic).query(&mut *self.connection.borrow_mut())?)
    }

    fn group(&self, topic: &str, group: &str) -> Fallible<Group> {
        let mut monitor = self.monitor.borrow_mut();
        if monitor.is_none() {
            // An inbox that has not fetched anything is not a consumer yet.
            *monitor = Some(RedisInbox::builder(&*self.url, topic, group).connect()?.monitor());
        }
        let status = monitor
            .as_mut()
            .expect("a monitor")
            .status()?
            .pop()
            .ok_or("a stream without a status")?;
        let backlog = status.backlog.ok_or(
            "the server does not tell the backlog of a group: it must be Redis 7 or newer",
        )?;
        Ok(Group {
            backlog: Some(backlog),
            in_flight: Some(status.in_flight),
            redelivered: None,
            unacknowledged: backlog + status.in_flight,
        })
    }

    fn record(key: &[u8], payload: &[u8]) -> Fields {
        Fields::from_payload(payload).with("key", key)
    }

    fn key(record: &Record) -> &[u8] {
        record.get("key").unwrap_or_default()
    }

    fn payload(record: &Record) -> &[u8] {
        record.payload().unwrap_or_default()
    }

    fn remove(&self, topics: &[&str]) -> Fallible<()> {
        Ok(redis::cmd("DEL").arg(topics).query(&mut *self.connection.borrow_mut())?)
    }
}
