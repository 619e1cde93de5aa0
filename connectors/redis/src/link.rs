//! [`Link`]: a connection that is made on demand, and dropped when it fails.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, Connection, ConnectionAddr, ConnectionInfo, RedisConnectionInfo, RedisError, Value, cmd};

use crate::error::Failure;

/// How to reach a server.
#[derive(Clone)]
pub(crate) struct Address {
    /// Without the password, the user and the database: a link authenticates itself, because the client hides the
    /// reason of a refusal.
    client: redis::Client,
    settings: RedisConnectionInfo,
    pub(crate) url: Arc<str>,
    connect_timeout: Duration,
    response_timeout: Duration,
}

impl Address {
    pub(crate) fn new(info: ConnectionInfo, timeouts: Timeouts) -> Result<Self, RedisError> {
        #[cfg(feature = "tls")]
        choose_cryptography();
        let settings = info.redis_settings().clone();
        let url = show(info.addr(), &settings).into();
        // Each call is one write, whose end must not wait for the acknowledgement of its start.
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        let bare = RedisConnectionInfo::default().set_skip_set_lib_name();
        let client = redis::Client::open(info.set_redis_settings(bare).set_tcp_settings(tcp))?;
        Ok(Self { client, settings, url, connect_timeout: timeouts.connect, response_timeout: timeouts.response })
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let connection = self.client.get_connection_with_timeout(self.connect_timeout);
        let mut connection = connection.map_err(Failure::of_connecting)?;
        self.sign_in(&mut connection).map_err(Failure::of_connecting)?;
        Ok(connection)
    }

    fn sign_in(&self, connection: &mut Connection) -> Result<(), RedisError> {
        connection.set_read_timeout(Some(self.response_timeout))?;
        connection.set_write_timeout(Some(self.response_timeout))?;
        if let Some(password) = self.settings.password() {
            cmd("AUTH").arg(self.settings.username()).arg(password).exec(connection)?;
        }
        match self.settings.db() {
            0 => cmd("PING").exec(connection),
            db => cmd("SELECT").arg(db).exec(connection),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// How long a server may take to answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) connect: Duration,
    pub(crate) response: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), response: Duration::from_secs(5) }
    }
}

/// The setters for the [`Timeouts`] of a builder. `more` is additional documentation for the second one.
macro_rules! timeout_setters {
    ($($more:literal)?) => {
        /// Sets the maximum time for connecting. Defaults to 2 s.
        ///
        /// # Panics
        /// If it is zero.
        #[track_caller]
        pub fn connect_timeout(mut self, timeout: Duration) -> Self {
            assert!(!timeout.is_zero(), "`connect_timeout` must not be zero");
            self.timeouts.connect = timeout;
            self
        }

        /// Sets the maximum time for a reply of the server. Defaults to 5 s. After that the connection is dropped, with
        /// a transient error.
        $(#[doc = $more])?
        ///
        /// # Panics
        /// If it is zero.
        #[track_caller]
        pub fn response_timeout(mut self, timeout: Duration) -> Self {
            assert!(!timeout.is_zero(), "`response_timeout` must not be zero");
            self.timeouts.response = timeout;
            self
        }
    };
}
pub(crate) use timeout_setters;

pub(crate) struct Link {
    address: Address,
    open: Option<Connection>,
    /// The current time limit for replies.
    limit: Duration,
}

impl Link {
    pub(crate) fn new(address: Address) -> Self {
        let limit = address.response_timeout;
        Self { address, open: None, limit }
    }

    /// Another link to the same server.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.address.clone())
    }

    pub(crate) fn url(&self) -> &Arc<str> {
        &self.address.url
    }

    /// Whether the last connection is still open, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(crate) fn connect(&mut self) -> Result<(), Failure> {
        if self.open.is_none() {
            self.open = Some(self.address.connect()?);
            self.limit = self.address.response_timeout;
        }
        Ok(())
    }

    /// Makes a call and returns its reply. The server may take `blocked` longer than usual.
    pub(crate) fn call(&mut self, command: &Cmd, blocked: Duration) -> Result<Value, Failure> {
        let mut reply = Value::Nil;
        self.exchange(&command.get_packed_command(), 1, blocked, |_, value| reply = value)?;
        Ok(reply)
    }

    /// Makes several calls in one exchange, and passes the replies of those that succeed to `each`, with their numbers.
    /// Fails with the first error: if that is a connection error, the outcome of the rest is unknown, and the
    /// connection is closed.
    pub(crate) fn exchange(
        &mut self,
        packed: &[u8],
        calls: usize,
        blocked: Duration,
        mut each: impl FnMut(usize, Value),
    ) -> Result<(), Failure> {
        self.connect()?;
        let limit = self.address.response_timeout.saturating_add(blocked);
        let connection = self.open.as_mut().expect("connected above");
        let mut answered = 0;
        let outcome = (|| {
            if limit != self.limit {
                connection.set_read_timeout(Some(limit))?;
                self.limit = limit;
            }
            connection.send_packed_command(packed)?;
            let mut refused = None;
            while answered < calls {
                let value = connection.recv_response()?;
                answered += 1;
                match value {
                    // The remaining replies must be read, or the next call gets them.
                    Value::ServerError(error) => refused = refused.or(Some(RedisError::from(error))),
                    value => each(answered - 1, value),
                }
            }
            refused.map_or(Ok(()), Err)
        })();
        outcome.map_err(|cause: RedisError| {
            let failure = Failure::of_call(cause);
            // A server that has become a replica may have passed its name to another one.
            if answered < calls || failure.is("READONLY") {
                self.open = None;
            }
            failure
        })
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("url", &self.address.url).field("open", &self.is_open()).finish()
    }
}

/// Selects ring for the process, unless the program has made a choice. Otherwise rustls panics in a program in which
/// another crate enables a second implementation.
#[cfg(feature = "tls")]
fn choose_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // If another thread was faster, its choice applies.
        _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// The URL, without the password.
fn show(address: &ConnectionAddr, settings: &RedisConnectionInfo) -> String {
    let user = settings.username().map(|user| format!("{user}@")).unwrap_or_default();
    let db = settings.db();
    match address {
        ConnectionAddr::Tcp(host, port) => format!("redis://{user}{}:{port}/{db}", bracketed(host)),
        ConnectionAddr::TcpTls { host, port, .. } => format!("rediss://{user}{}:{port}/{db}", bracketed(host)),
        ConnectionAddr::Unix(path) => format!("redis+unix://{}?db={db}", path.display()),
        other => format!("redis://{user}{other}/{db}"),
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;

    use super::*;

    #[test]
    fn the_url_is_shown_without_the_password() {
        let cases = [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://:secret@10.0.0.1:7000/3", "redis://10.0.0.1:7000/3"),
            ("redis://ann:secret@[::1]:7000", "redis://ann@[::1]:7000/0"),
            ("redis+unix:///run/redis.sock?db=2&pass=secret", "redis+unix:///run/redis.sock?db=2"),
        ];
        for (url, shown) in cases {
            let info = url.into_connection_info().expect("a URL");
            assert_eq!(show(info.addr(), info.redis_settings()), shown);
        }
    }
}
