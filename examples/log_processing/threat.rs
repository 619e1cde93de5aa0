//! Requests that attack or probe a server.

use serde::Serialize;

/// The purpose of a suspicious request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Threat {
    /// Files outside the served directory.
    Traversal,
    /// The database behind the application.
    SqlInjection,
    /// The browsers of other users.
    Scripting,
    /// Passwords, keys, backups.
    Secrets,
}

/// Patterns in targets, in lower case and without escapes.
const SIGNS: [(Threat, &[&str]); 4] = [
    (Threat::Traversal, &["../", "..\\", "/etc/passwd", "/proc/self"]),
    (
        Threat::SqlInjection,
        &["union select", "union all select", "' or ", "'or'", "; drop table", "sleep("],
    ),
    (Threat::Scripting, &["<script", "javascript:", "onerror="]),
    (Threat::Secrets, &["/.env", "/.git/", "/.aws/", "/.ssh/", "/wp-config.php", "/id_rsa"]),
];

impl Threat {
    /// The suspicious purpose of a request for `target`, if any.
    pub(crate) fn of(target: &str) -> Option<Self> {
        // Nearly all targets are plain words between slashes, which cannot contain any of the patterns.
        let odd = |byte| {
            matches!(byte, b'%' | b'\'' | b'<' | b'(' | b';' | b':' | b'+' | b'\\' | b' ')
        };
        if !target.bytes().any(odd) && !is_hunted(target) {
            return None;
        }
        let plain = plain(target);
        SIGNS
            .iter()
            .find(|(_, signs)| signs.iter().any(|sign| plain.contains(sign)))
            .map(|(threat, _)| *threat)
    }

    /// As written in JSON.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Traversal => "traversal",
            Self::SqlInjection => "sql-injection",
            Self::Scripting => "scripting",
            Self::Secrets => "secrets",
        }
    }

    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Traversal => "path traversal",
            Self::SqlInjection => "SQL injection",
            Self::Scripting => "script injection",
            Self::Secrets => "hunt for secrets",
        }
    }
}

/// Whether any of the signs without an odd character may be in a target.
///
/// All but the two dots follow a slash. So one look at each slash does for them, which takes a fifth of the time that it takes
/// to search for each of them.
fn is_hunted(target: &str) -> bool {
    let hints = [".", "etc", "proc", "wp-", "id_"];
    let two_dots = target.as_bytes().windows(2).any(|bytes| bytes == b"..");
    two_dots
        || target.split('/').skip(1).any(|part| hints.iter().any(|hint| part.starts_with(hint)))
}

/// In lower case, with escapes undone, twice: escaping an escape is an old trick.
fn plain(target: &str) -> String {
    let once = unescape(target.as_bytes());
    let twice = unescape(&once);
    String::from_utf8_lossy(&twice).to_lowercase()
}

fn unescape(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => {
                digit(high).zip(digit(low)).map(|(high, low)| (high * 16 + low) as u8)
            }
            _ => None,
        };
        match escaped {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[2..];
            }
            None => {
                plain.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    plain
}
