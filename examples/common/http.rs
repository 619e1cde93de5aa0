//! HTTP over loopback: a [`Server`] inside the program, on its own port, and a [`Client`].
#![allow(dead_code, unreachable_pub, reason = "each example uses its own part of it")]

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use streamz::{BoxError, CancelToken};

/// A status and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Answer {
    pub fn new(status: u16, text: impl Into<String>) -> Self {
        Self { status, text: text.into() }
    }
}

/// A request to a server.
#[derive(Debug, Clone)]
pub struct Question {
    pub path: String,
    pub text: String,
}

/// Answers on a free port of the loopback interface until it is dropped; dropping it waits for its threads.
pub struct Server {
    http: Arc<tiny_http::Server>,
    stop: CancelToken,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts to answer up to `threads` requests at a time. The token is for waiting: dropping the server cancels it.
    pub fn start(
        threads: usize,
        answer: impl Fn(&CancelToken, &Question) -> Answer + Send + Sync + 'static,
    ) -> Result<Self, BoxError> {
        let http = Arc::new(tiny_http::Server::http(("127.0.0.1", 0))?);
        let (stop, answer) = (CancelToken::new(), Arc::new(answer));
        let worker = |_| {
            let (http, stop, answer) = (Arc::clone(&http), stop.clone(), Arc::clone(&answer));
            std::thread::spawn(move || {
                while let Ok(mut request) = http.recv() {
                    let mut text = String::new();
                    let answer = match request.as_reader().read_to_string(&mut text) {
                        Ok(_) => {
                            answer(&stop, &Question { path: request.url().to_owned(), text })
                        }
                        Err(error) => Answer::new(400, error.to_string()),
                    };
                    // The client may have disconnected, which does not matter here.
                    let response = tiny_http::Response::from_string(answer.text)
                        .with_status_code(answer.status);
                    let _ = request.respond(response);
                }
            })
        };
        let threads = (0..threads).map(worker).collect();
        Ok(Self { http, stop, threads })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http.server_addr())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        // Each wakes one thread.
        self.threads.iter().for_each(|_| self.http.unblock());
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

/// Reuses connections, for use on many threads. Clones share them.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
}

impl Client {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        // No proxy, whatever the environment says: everything is on one machine.
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_idle_connections_per_host(32);
        Self { agent: config.build().into() }
    }

    /// Sends a request, and waits for the answer until the deadline of the token, if it has one. Every status counts as
    /// an answer.
    pub fn post(
        &self,
        cancel: &CancelToken,
        url: &str,
        text: &str,
    ) -> Result<Answer, ureq::Error> {
        let mut response = self
            .agent
            .post(url)
            .config()
            .timeout_global(time_left(cancel))
            .build()
            .send(text)?;
        let text = response.body_mut().read_to_string()?;
        Ok(Answer::new(response.status().as_u16(), text))
    }

    /// As [`post`](Self::post), without a body.
    pub fn get(&self, cancel: &CancelToken, url: &str) -> Result<Answer, ureq::Error> {
        let mut response =
            self.agent.get(url).config().timeout_global(time_left(cancel)).build().call()?;
        let text = response.body_mut().read_to_string()?;
        Ok(Answer::new(response.status().as_u16(), text))
    }
}

fn time_left(cancel: &CancelToken) -> Option<Duration> {
    let left =
        cancel.deadline().map(|deadline| deadline.saturating_duration_since(cancel.now()));
    // Zero would mean no limit.
    left.map(|left| left.max(Duration::from_millis(1)))
}
