//! [`Server`]: a separate `redis-server` for a test.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::thread::JoinHandle;

use streamz_redis::redis;
use tempfile::TempDir;

/// Runs on a free port of the loopback interface and in its own folder. Killed when dropped, even by a panic.
#[derive(Debug)]
pub(crate) struct Server {
    dir: TempDir,
    port: u16,
    options: Vec<String>,
    process: Option<(Child, JoinHandle<()>)>,
}

impl Server {
    /// Starts one. Returns `None` if none is installed, and says so once. `{port}` in the options is its port.
    pub(crate) fn start(options: &[&str]) -> Option<Self> {
        let installed = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
        if !installed {
            static SAID: Once = Once::new();
            // Bypasses libtest, which shows the output of a test only when it fails.
            SAID.call_once(|| writeln!(std::io::stderr(), "skipped: redis-server is not installed").expect("stderr"));
            return None;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let options = options.iter().map(|option| option.to_string()).collect();
        let mut server = Self { dir, port: 0, options, process: None };
        // Between the search for a free port and its use, another process may take it.
        for _ in 0..10 {
            server.port = free_port();
            if server.restart() {
                return Some(server);
            }
        }
        panic!("no redis-server in ten attempts")
    }

    /// Starts it again on its port, with the data that it has saved. Returns whether it could.
    pub(crate) fn restart(&mut self) -> bool {
        self.kill();
        let port = self.port.to_string();
        let mut child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--dir"])
            .arg(self.dir.path())
            .args(self.options.iter().map(|option| option.replace("{port}", &port)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a redis-server");
        let mut log = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = log.by_ref().map_while(Result::ok).any(|line| line.contains("Ready to accept connections"));
        // Otherwise it would eventually wait for room in the pipe.
        let reader = std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
        self.process = Some((child, reader));
        ready
    }

    /// Kills it as in a crash.
    pub(crate) fn kill(&mut self) {
        if let Some((mut child, reader)) = self.process.take() {
            child.kill().expect("a process to kill");
            child.wait().expect("a process to wait for");
            reader.join().expect("the reader of the log");
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A plain connection.
    pub(crate) fn client(&self) -> redis::Connection {
        redis::Client::open(self.url()).expect("a URL").get_connection().expect("a connection")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port at which no server listens.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
