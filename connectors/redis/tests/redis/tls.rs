//! Connections with TLS.

use std::path::Path;
use std::process::{Command, Stdio};

use redis::{Client, ConnectionInfo, TlsCertificates};
use streamz::delivery::Outbox;
use streamz_redis::{RedisInbox, RedisOutbox};

use crate::common::{Server, fetch, numbered};

/// Creates a certificate for the loopback interface. Returns `None` if there is no `openssl`.
fn certificate(dir: &Path) -> Option<(String, String)> {
    let (key, certificate) = (dir.join("key.pem").display().to_string(), dir.join("cert.pem").display().to_string());
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "basicConstraints=CA:FALSE",
        ])
        .args(["-keyout", &key, "-out", &certificate])
        .stderr(Stdio::null())
        .status();
    made.is_ok_and(|status| status.success()).then_some((key, certificate))
}

#[test]
fn records_travel_over_tls() {
    let dir = tempfile::tempdir().expect("a folder");
    let Some((key, certificate)) = certificate(dir.path()) else { return };
    let options = ["--port", "0", "--tls-port", "{port}", "--tls-auth-clients", "no", "--requirepass", "right"];
    let files = ["--tls-key-file", &key, "--tls-cert-file", &certificate, "--tls-ca-cert-file", &certificate];
    let Some(server) = Server::start(&[&options[..], &files[..]].concat()) else { return };
    let url = format!("rediss://:right@127.0.0.1:{}/2", server.port());

    let root_cert = Some(std::fs::read(&certificate).expect("a certificate"));
    let client = Client::build_with_tls(&*url, TlsCertificates { client_tls: None, root_cert });
    let info: ConnectionInfo = client.expect("a client").get_connection_info().clone();
    let mut outbox = RedisOutbox::builder(info.clone(), "s").connect().expect("an outbox");
    outbox.write(&mut numbered(0..3)).expect("a write");
    let mut inbox = RedisInbox::builder(info, "s", "g").connect().expect("an inbox");
    assert_eq!(fetch(&mut inbox, 10).len(), 3);

    // The system does not know the issuer of this certificate.
    let error = RedisInbox::builder(&*url, "s", "g").connect().expect_err("an unknown certificate");
    assert!(!error.is_transient());
    let text = error.to_string();
    assert!(text.starts_with(&format!("rediss://127.0.0.1:{}/2, stream `s`", server.port())), "{text}");
    assert!(text.contains("certificate"), "{text}");
}
