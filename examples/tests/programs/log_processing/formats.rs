//! Tests the formats of log lines: those of many servers are read, and the client is found in each.

use serde_json::json;

use super::{Place, good, report};

#[test]
fn all_formats_are_read_line_by_line() {
    let text = [
        r#"192.0.2.7 - frank [14/Mar/2026:10:00:00 +0100] "GET /a?x=1 HTTP/1.0" 200 5"#,
        r#"192.0.2.7 - a [b [14/Mar/2026:09:00:01 +0000] "GET /a HTTP/1.0" 200 5 "http://example.org/" "an agent""#,
        r#"::1 - - [14/Mar/2026:09:00:02 +0000] "GET /a\"b HTTP/1.1" 404 -"#,
        r#"::1 - - [14/Mar/2026:09:00:02 +0000] "-" 408 0"#,
        r#"::1 - - [14/Mar/2026:09:00:02 +0000] "\x16\x03\x01" 400 0"#,
        r#"{"time":"2026-03-14T10:00:03+01:00","client":"::1","path":"/a","status":200,"bytes":5}"#,
        r#" {"@timestamp":1773478803,"remote_addr":"::1","request":"GET /a HTTP/1.1","status":"200","body_bytes_sent":"5"}"#,
        r#"{"ts":1773478803.75,"remote_ip":"::1","uri":"/a#b","status_code":200,"size":5,"more":{"x":[1]}}"#,
        r#"{"timestamp":1773478803750,"ip":"::1","url":"/\u0061","code":200}"#,
        r#"{"ts":1773478803.1,"request":{"remote_ip":"::1","method":"GET","uri":"/a"},"status":200,"size":5}"#,
        r#"{"time":1773478803,"ts":"x","client":"::1","path":"/a","url":null,"uri":{},"status":200,"bytes":5}"#,
    ]
    .join("\n");
    let report = report(text, &[]);
    assert_eq!((&report["read"], &report["parsed"]), (&json!(11), &json!(11)));
    assert_eq!(report["statuses"], json!({"200": 8, "400": 1, "404": 1, "408": 1}));
    assert_eq!(
        report["paths"][0],
        json!({"path": "/a", "requests": 8, "errors": 0}),
        "{report}"
    );
    assert_eq!(report["bytes"], 35);
    assert_eq!(
        (&report["first"], &report["last"]),
        (&json!("2026-03-14T09:00:00Z"), &json!("2026-03-14T09:00:03Z"))
    );
    assert_eq!(report["clients"].as_array().unwrap().len(), 2);
}

#[test]
fn a_format_can_be_forced() {
    let text = good(0) + r#"{"time":0,"client":"a","path":"/","status":200}"#;
    let clf = report(&text, &["--format", "clf"]);
    assert_eq!(clf["reasons"], json!({"not a line of the Common Log Format: no client": 1}));
    let json = report(&text, &["--format", "json"]);
    assert_eq!(json["reasons"], json!({"not JSON": 1}));
}

#[test]
fn line_ends_and_byte_order_marks_make_no_difference() {
    let text = format!("\u{feff}{}\r\n{}{}", good(0).trim_end(), good(1), good(2).trim_end());
    let report = report(text, &[]);
    assert_eq!((&report["read"], &report["parsed"]), (&json!(3), &json!(3)));
}

#[test]
fn the_client_is_found_wherever_a_format_has_it() {
    let cases = [
        ("192.0.2.1 - -", "192.0.2.1"),
        ("192.0.2.1  -  frank", "192.0.2.1"),
        ("192.0.2.1 - John Smith", "192.0.2.1"),
        ("192.0.2.1 ident frank", "192.0.2.1"),
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:39496 - -", "192.0.2.1"),
        ("2001:db8::1 - -", "2001:db8::1"),
        ("[2001:db8::1] - -", "2001:db8::1"),
        ("[2001:db8::1]:443 - -", "2001:db8::1"),
        ("fe80::1%eth0 - -", "fe80::1%eth0"),
        ("fe80::1%eth0.100 - -", "fe80::1%eth0.100"),
        ("fe80::1%br-lan - -", "fe80::1%br-lan"),
        ("fe80::1%wg_0~a - -", "fe80::1%wg_0~a"),
        ("fe80::1%25eth0 - -", "fe80::1%25eth0"),
        ("[fe80::1%br-lan]:443 - -", "fe80::1%br-lan"),
        ("www.example.com:80 fe80::1%eth0.100 - -", "fe80::1%eth0.100"),
        ("fe80::1%eth0.100, 198.51.100.1 - -", "fe80::1%eth0.100"),
        ("fe80::1% - -", ""),
        ("fe80::1%eth0/64 - -", ""),
        // Longer than any name of an interface: a client must not be able to make tables grow.
        ("fe80::1%aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa - -", ""),
        ("unix: - -", "unix:"),
        ("client.example.net - -", "client.example.net"),
        ("localhost - -", "localhost"),
        // With the virtual host before it: Apache with and without port, nginx, lighttpd.
        ("www.example.com:80 192.0.2.1 - -", "192.0.2.1"),
        ("www.example.com:80 192.0.2.1 - John Smith", "192.0.2.1"),
        ("www.example.com:443 client.example.net - -", "client.example.net"),
        ("www.example.com:443 localhost - -", "localhost"),
        ("www.example.com 192.0.2.1 - frank", "192.0.2.1"),
        ("www.example.com client.example.net - -", "client.example.net"),
        ("198.51.100.1:80 192.0.2.1 - -", "192.0.2.1"),
        ("198.51.100.1 192.0.2.1 - -", "192.0.2.1"),
        ("[2001:db8::2]:443 2001:db8::1 - -", "2001:db8::1"),
        ("_ 192.0.2.1 - -", "192.0.2.1"),
        ("- 192.0.2.1 - -", "192.0.2.1"),
        ("default:80 192.0.2.1 - -", "192.0.2.1"),
        // Without the ident.
        ("www.example.com 192.0.2.1 -", "192.0.2.1"),
        ("www.example.com 192.0.2.1", "192.0.2.1"),
        ("www.example.com 192.0.2.1 frank", "192.0.2.1"),
        ("198.51.100.1:80 192.0.2.1 -", "192.0.2.1"),
        ("www.example.com 203.0.113.9, 198.51.100.1 -", "203.0.113.9"),
        ("192.0.2.1 www.example.com -", "192.0.2.1"),
        ("192.0.2.1 198.51.100.1 -", "192.0.2.1"),
        // Lists.
        ("203.0.113.9, 198.51.100.1 - -", "203.0.113.9"),
        ("203.0.113.9,198.51.100.1 - -", "203.0.113.9"),
        ("203.0.113.9, 198.51.100.1, 198.51.100.2 - John Smith", "203.0.113.9"),
        ("203.0.113.9:1234, [2001:db8::1]:443 - -", "203.0.113.9"),
        ("unknown, 203.0.113.9 - -", "203.0.113.9"),
        ("-, 203.0.113.9 - -", "203.0.113.9"),
        ("www.example.com:80 203.0.113.9, 198.51.100.1 - -", "203.0.113.9"),
        // Anything else before the client, or no client at all.
        ("Oct 10 13:55:36 web nginx: 192.0.2.1 - -", ""),
        ("<190>Oct 10 13:55:36 web nginx: 192.0.2.1 - -", ""),
        ("2000-10-10T13:55:36Z web nginx[7]: 192.0.2.1 - -", ""),
        ("2000-10-10 13:55:36 192.0.2.1 - -", ""),
        ("web_1  | 192.0.2.1 - -", ""),
        ("web-1 | 192.0.2.1 - -", ""),
        ("access.log:192.0.2.1 - -", ""),
        ("17:192.0.2.1 - -", ""),
        ("nginx: 192.0.2.1 - -", ""),
        ("www.example.com:80 - - -", ""),
        ("www.example.com:80 - -", ""),
        ("- - -", ""),
        ("999.0.2.1 - -", ""),
        ("192.0.2 - -", ""),
        ("12345 - -", ""),
        ("\"192.0.2.1\" - -", ""),
        ("203.0.113.9, ' or 1=1 - -", ""),
        ("203.0.113.9, -  - -", "203.0.113.9"),
    ];
    let place = Place::new();
    for (who, client) in cases {
        let at = "[14/Mar/2026:09:00:00 +0000] \"GET / HTTP/1.1\" 200 5";
        let json = json!({"time": 0, "client": who, "path": "/", "status": 200}).to_string();
        // In JSON there is only the client, as a single field.
        let is_field = !who.split(", ").any(|word| word.contains(' '));
        let lines = format!("{who} {at}\n{}\n", if is_field { json } else { String::new() });
        place.write("a.log", lines);
        let ran = place.run(&["a.log", "--json", "report.json"]);
        assert_eq!(ran.code, Some(0));
        let report = place.report();
        let found = report["clients"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["client"].as_str(), it["requests"].as_u64()));
        let expected = (Some(client), Some(1 + u64::from(is_field)));
        let expected = if client.is_empty() { vec![] } else { vec![expected] };
        assert_eq!(found.collect::<Vec<_>>(), expected, "{who}");
    }
}

#[test]
fn formats_of_many_servers_are_read() {
    let time = "14/Mar/2026:09:00:00 +0000";
    let lines = [
        // nginx, with its own times.
        json!({"time_local": time, "remote_addr": "192.0.2.1", "request": "GET /a HTTP/1.1", "status": "200", "body_bytes_sent": "5"}),
        json!({"msec": "1773478800.123", "remote_addr": "192.0.2.1", "request": "GET /a HTTP/1.1", "status": "200", "bytes_sent": "5"}),
        json!({"time_iso8601": "2026-03-14T09:00:00+00:00", "remote_addr": "192.0.2.1", "uri": "/a", "status": "000", "bytes_sent": "-"}),
        // Traefik.
        json!({"ClientAddr": "192.0.2.1:39496", "ClientHost": "192.0.2.1", "DownstreamContentSize": 5, "DownstreamStatus": 200,
            "RequestAddr": "example.com", "RequestPath": "/a?x", "StartUTC": "2026-03-14T09:00:00.5Z", "time": "2026-03-14T09:00:01Z"}),
        json!({"ClientAddr": "[2001:db8::1]:39496", "DownstreamStatus": 0, "RequestPath": "/a", "StartUTC": "2026-03-14T09:00:00.5Z"}),
        // Caddy, behind a proxy and of an older version.
        json!({"ts": 1773478800.123, "request": {"remote_ip": "10.0.0.1", "client_ip": "192.0.2.1", "uri": "/a", "headers": {"x": ["y"]}}, "size": 5, "status": 200}),
        json!({"ts": 1773478800.123, "request": {"remote_addr": "192.0.2.1:42900", "uri": "/a"}, "size": 5, "status": 200}),
        // Envoy.
        json!({"start_time": "2026-03-14T09:00:00.123Z", "downstream_remote_address": "192.0.2.1:5000", "path": "/a", "response_code": 200, "bytes_sent": 5}),
        json!({"time": 1_773_478_800_000_000_u64, "ip": "192.0.2.1", "path": "/a", "status": 200}),
        json!({"time": 1_773_478_800_000_000_000_u64, "ip": "192.0.2.1", "path": "/a", "status": 200}),
        json!({"time": 1_773_478_800_000.5, "ip": "192.0.2.1", "path": "/a", "status": "-"}),
    ];
    let clf = [
        format!(
            r#"192.0.2.1 - - [{time}] "GET /a HTTP/1.1" 200 5 "-" "-" 1 "router@docker" "http://10.0.0.1:80" 2ms"#
        ),
        format!(r#"192.0.2.1 - - [{time}] "GET /a HTTP/1.1" 0 -"#),
        format!(r#"192.0.2.1 - - [{time}] "GET /a HTTP/1.1" - -"#),
        format!(r#"192.0.2.1 - - [{time}] "" 000 0"#),
    ];
    let text = lines
        .iter()
        .map(|line| format!("{line}\n"))
        .chain(clf.iter().map(|line| format!("{line}\n")));
    let report = report(text.collect::<String>(), &[]);
    assert_eq!((&report["parsed"], &report["malformed"]), (&json!(15), &json!(0)), "{report}");
    assert_eq!(report["statuses"], json!({"0": 6, "200": 9}));
    assert_eq!(
        (&report["first"], &report["last"]),
        (&json!("2026-03-14T09:00:00Z"), &json!("2026-03-14T09:00:00Z"))
    );
    let clients = report["clients"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["client"].as_str().unwrap(), &it["requests"]));
    assert_eq!(
        clients.collect::<Vec<_>>(),
        [("192.0.2.1", &json!(14)), ("2001:db8::1", &json!(1))]
    );
    assert_eq!(report["minutes"][0]["classes"], json!({"2xx": 9, "other": 6}));
}

/// Each line has several fields with the same meaning, some of which mean nothing.
#[test]
fn the_first_usable_field_of_several_counts() {
    let lines = [
        // Time.
        r#"{"time":"today","ts":60,"client":"192.0.2.1","path":"/a","status":200,"bytes":5}"#,
        r#"{"time":{},"timestamp":"","msec":"60.5","ts":0,"client":"192.0.2.1","path":"/a","status":200,"bytes":5}"#,
        r#"{"time":1e300,"@timestamp":"1970-01-01T00:01:00Z","client":"192.0.2.1","path":"/a","status":200,"bytes":5}"#,
        // Status.
        r#"{"status":"ok","code":200,"time":60,"client":"192.0.2.1","path":"/a","bytes":5}"#,
        r#"{"code":7,"status":99999,"status_code":true,"response_code":"200","time":60,"client":"192.0.2.1","path":"/a","bytes":5}"#,
        // Bytes.
        r#"{"size":"5 B","bytes":-5,"bytes_sent":"5","time":60,"client":"192.0.2.1","path":"/a","status":200}"#,
        // Path.
        r#"{"path":7,"uri":["/b"],"url":"/a","time":60,"client":"192.0.2.1","status":200,"bytes":5}"#,
        r#"{"path":7,"request":"GET /a HTTP/1.1","time":60,"client":"192.0.2.1","status":200,"bytes":5}"#,
        r#"{"path":7,"request":{"uri":"/a"},"time":60,"client":"192.0.2.1","status":200,"bytes":5}"#,
        r#"{"request":7,"request":"GET /a HTTP/1.1","time":60,"client":"192.0.2.1","status":200,"bytes":5}"#,
        // Client.
        r#"{"client":"-","client_ip":"192.0.2.1","time":60,"path":"/a","status":200,"bytes":5}"#,
        r#"{"client":"?","remote_addr":"192.0.2.1","time":60,"path":"/a","status":200,"bytes":5}"#,
        r#"{"remote_addr":"a b","ip":"192.0.2.1:80","client":"a b","time":60,"path":"/a","status":200,"bytes":5}"#,
        r#"{"client":7,"request":{"client_ip":"192.0.2.1","uri":"/a"},"time":60,"status":200,"bytes":5}"#,
        r#"{"client":"\u0031\u0039\u0032.0.2.1:80","time":60,"path":"/a","status":200,"bytes":5}"#,
    ];
    for line in lines {
        let report = report(line, &[]);
        let found = ["parsed", "bytes", "first"].map(|key| report[key].clone());
        assert_eq!(
            found,
            [json!(1), json!(5), json!("1970-01-01T00:01:00Z")],
            "{line} {report}"
        );
        assert_eq!(report["statuses"], json!({"200": 1}), "{line}");
        assert_eq!(report["clients"][0]["client"], "192.0.2.1", "{line}");
        assert_eq!(report["paths"][0]["path"], "/a", "{line}");
    }
    // If none can be used, the reason is that of the first.
    for (line, reason) in [
        (
            r#"{"time":"today","ts":"now","client":"a","path":"/","status":200}"#,
            "no such time: `today`",
        ),
        (r#"{"status":99,"code":"x","time":0,"client":"a","path":"/"}"#, "no such status: 99"),
        (r#"{"client":"?","ip":"!","time":0,"path":"/","status":200}"#, "not a client: `?`"),
        (r#"{"ip":"!","ip":"?","time":0,"path":"/","status":200}"#, "not a client: `!`"),
        (
            r#"{"size":"5 B","bytes":-5,"time":0,"client":"a","path":"/","status":200}"#,
            "not a number of bytes: `5 B`",
        ),
    ] {
        let place = Place::new();
        place.write("a.log", line);
        let ran = place.run(&["a.log", "--rejects", "rejects.jsonl"]);
        assert_eq!(ran.code, Some(0));
        assert_eq!(place.rejects()[0]["reason"], reason);
    }
}
