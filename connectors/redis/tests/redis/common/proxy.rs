//! [`Proxy`]: a network that can fail.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{JoinHandle, spawn};

/// Forwards connections to a server, until told to stall or cut them.
#[derive(Debug)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    server: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    sockets: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
    /// Replies stop.
    stalled: bool,
    /// The number of bytes of replies that are forwarded before the connection is cut.
    allowance: Option<usize>,
    closed: bool,
}

impl Proxy {
    pub(crate) fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared { server, state: Mutex::default(), changed: Condvar::new() });
        let theirs = Arc::clone(&shared);
        let acceptor = Some(spawn(move || theirs.accept(&listener)));
        Self { port, shared, acceptor }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Holds replies back, or forwards them again. The client's requests arrive.
    pub(crate) fn stall(&self, stalled: bool) {
        self.shared.state.lock().expect("the state").stalled = stalled;
        self.shared.changed.notify_all();
    }

    /// Cuts all connections. New ones are forwarded, unless it is stalled.
    pub(crate) fn cut(&self) {
        for socket in self.shared.state.lock().expect("the state").sockets.drain(..) {
            _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Cuts a connection after this number of further bytes of replies.
    pub(crate) fn cut_after(&self, bytes: usize) {
        self.shared.state.lock().expect("the state").allowance = Some(bytes);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().expect("the state");
        state.closed = true;
        for socket in state.sockets.drain(..) {
            _ = socket.shutdown(Shutdown::Both);
        }
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        self.shared.changed.notify_all();
        // Wakes the acceptor.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        for thread in threads.into_iter().chain(self.acceptor.take()) {
            thread.join().expect("a thread of the proxy");
        }
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            let mut state = self.state.lock().expect("the state");
            if state.closed {
                return;
            }
            // The server is gone: the client's connection is closed.
            let Ok(server) = TcpStream::connect(("127.0.0.1", self.server)) else { continue };
            for socket in [&client, &server] {
                socket.set_nodelay(true).expect("an option");
                state.sockets.push(socket.try_clone().expect("a handle"));
            }
            let (from, to) = (client.try_clone().expect("a handle"), server.try_clone().expect("a handle"));
            state.threads.push(spawn(move || forward(from, to, |bytes| bytes)));
            let shared = Arc::clone(self);
            state.threads.push(spawn(move || forward(server, client, |bytes| shared.reply(bytes))));
        }
    }

    /// The number of bytes of a reply that may pass.
    fn reply(&self, bytes: usize) -> usize {
        let state = self.state.lock().expect("the state");
        let mut state = self.changed.wait_while(state, |state| state.stalled && !state.closed).expect("the state");
        match &mut state.allowance {
            None => bytes,
            Some(allowance) if *allowance > bytes => {
                *allowance -= bytes;
                bytes
            }
            Some(allowance) => {
                let rest = *allowance;
                state.allowance = None;
                rest
            }
        }
    }
}

fn forward(mut from: TcpStream, mut to: TcpStream, allow: impl Fn(usize) -> usize) {
    let mut buffer = [0; 16_384];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let allowed = allow(count);
        if to.write_all(&buffer[..allowed]).is_err() || allowed < count {
            break;
        }
    }
    _ = from.shutdown(Shutdown::Both);
    _ = to.shutdown(Shutdown::Both);
}
