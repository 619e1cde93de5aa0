//! An HTTP gateway: requests go through a pipeline, and each caller gets an answer, also when the work fails or panics.

use std::sync::Arc;

use parking_lot::Mutex;
use streamz::prelude::*;

/// A request with the way back to its caller. One that is dropped without an answer gets one, too.
struct Request {
    text: String,
    http: Mutex<Option<tiny_http::Request>>,
}

impl Request {
    fn read(mut http: tiny_http::Request) -> Self {
        let mut text = String::new();
        let is_read = http.as_reader().read_to_string(&mut text);
        let request = Self { text, http: Mutex::new(Some(http)) };
        if let Err(error) = is_read {
            request.answer(400, &error.to_string());
        }
        request
    }

    /// Only the first answer counts.
    fn answer(&self, status: u16, text: &str) {
        if let Some(http) = self.http.lock().take() {
            // The caller may have left; that is no failure.
            _ = http.respond(tiny_http::Response::from_string(text).with_status_code(status));
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.answer(503, "shutting down");
    }
}

struct Gateway {
    http: Arc<tiny_http::Server>,
    pipeline: Pipeline,
}

impl Gateway {
    fn start(
        work: impl Fn(&str) -> Result<String, BoxError> + Send + Sync + 'static,
    ) -> Result<Self, BoxError> {
        let http = Arc::new(tiny_http::Server::http(("127.0.0.1", 0))?);
        let pipeline = Pipeline::new("gateway");
        let incoming = Arc::clone(&http);
        Stream::from_iter(&pipeline, std::iter::from_fn(move || incoming.recv().ok()))
            .named("read")
            .map(Request::read)
            .named("work")
            .async_map(4, move |_: &CancelToken, request: &Request| {
                request.answer(200, &work(&request.text)?);
                streamz::ok(())
            })
            .spawn_for_each(|result| {
                if let Err(error) = result {
                    error.with_item_ref(|request: &Request| {
                        request.answer(500, &format!("{error:#}"))
                    });
                }
            });
        Ok(Self { http, pipeline })
    }

    fn url(&self) -> String {
        format!("http://{}", self.http.server_addr())
    }

    /// What has been accepted is answered.
    fn stop(self) -> Report {
        self.http.unblock();
        self.pipeline.join()
    }
}

fn ask(url: &str, text: &str) -> (u16, String) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let mut response = agent.post(url).send(text).unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

#[test]
fn each_caller_gets_its_own_answer() {
    let gateway = Gateway::start(|text| match text {
        "panic" => panic!("on purpose"),
        text => Ok((text.parse::<u64>()? * 2).to_string()),
    })
    .unwrap();
    let url = gateway.url();
    std::thread::scope(|threads| {
        for caller in 0..8_u64 {
            let url = &url;
            threads.spawn(move || {
                for n in (caller * 100)..(caller * 100 + 10) {
                    assert_eq!(ask(url, &n.to_string()), (200, (n * 2).to_string()));
                }
            });
        }
    });
    let (status, text) = ask(&url, "many");
    assert!(status == 500 && text.contains("invalid digit"), "{status} {text}");
    let (status, text) = ask(&url, "panic");
    assert!(status == 500 && text.contains("on purpose"), "{status} {text}");
    let report = gateway.stop();
    assert!(report.is_complete(), "{report}");
    assert_eq!(
        report.stage("work").map(|stage| (stage.received(), stage.failed())),
        Some((82, 2))
    );
}
