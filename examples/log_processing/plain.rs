//! The same counts by other means: a plain loop that shares no code with the rest, for comparison.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::fmt::strtime;
use serde_json::Value;
use streamz::{BoxError, Result};

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) read: u64,
    pub(crate) parsed: u64,
    pub(crate) malformed: u64,
    pub(crate) bytes: u64,
    pub(crate) statuses: BTreeMap<u16, u64>,
    pub(crate) minutes: BTreeMap<i64, u64>,
    pub(crate) clients: BTreeMap<String, u64>,
}

/// Counts files that fit into memory.
pub(crate) fn count(files: &[PathBuf]) -> Result<Count, BoxError> {
    let mut count = Count::default();
    for file in files {
        let mut bytes = fs::read(file)?;
        if file.extension().is_some_and(|extension| extension == "gz") {
            let packed = std::mem::take(&mut bytes);
            flate2::read::GzDecoder::new(&*packed).read_to_end(&mut bytes)?;
        }
        let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        for line in text.split(|byte| *byte == b'\n') {
            count.read += 1;
            match fields(line) {
                None => count.malformed += 1,
                Some((client, time, status, bytes)) => {
                    count.parsed += 1;
                    count.bytes += bytes;
                    *count.statuses.entry(status).or_default() += 1;
                    *count.minutes.entry(time.div_euclid(60)).or_default() += 1;
                    *count.clients.entry(client).or_default() += 1;
                }
            }
        }
    }
    Ok(count)
}

/// Client, time, status and bytes of a line.
fn fields(line: &[u8]) -> Option<(String, i64, u16, u64)> {
    let line = std::str::from_utf8(line).ok().filter(|line| line.len() < 10_000)?;
    if line.starts_with('{') {
        let entry: Value = serde_json::from_str(line).ok()?;
        let time: Timestamp = entry["time"].as_str()?.parse().ok()?;
        let status = entry["status"].as_u64()?.try_into().ok()?;
        entry["path"].as_str()?;
        return Some((
            entry["client"].as_str()?.to_owned(),
            time.as_second(),
            status,
            entry["bytes"].as_u64()?,
        ));
    }
    let [before, _request, after] = line.splitn(3, '"').collect::<Vec<_>>()[..] else {
        return None;
    };
    let client = before.split(' ').next()?;
    let time = &before[before.find('[')? + 1..before.find(']')?];
    let time = strtime::parse("%d/%b/%Y:%H:%M:%S %z", time).ok()?.to_timestamp().ok()?;
    let mut numbers = after.split('"').next()?.split_whitespace();
    let status = numbers.next()?.parse().ok()?;
    let bytes = numbers.next()?;
    let bytes = if bytes == "-" { 0 } else { bytes.parse().ok()? };
    Some((client.to_owned(), time.as_second(), status, bytes))
}
