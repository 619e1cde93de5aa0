use std::sync::Mutex;

use streamz::{AsyncMapper, BoxError, CancelToken, Mapper, Processor, Stream, Switch};

use super::pipeline;

#[derive(Debug, Clone)]
struct LogEntry {
    level: &'static str,
    message: &'static str,
}

#[derive(Debug)]
struct ProcessedLog {
    log: LogEntry,
    action: &'static str,
}

static ALERTED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
static ANALYZED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

fn send_critical(log: &LogEntry) -> Result<(), BoxError> {
    ALERTED.lock().unwrap().push(log.message);
    Ok(())
}

fn analyze(log: &LogEntry) -> Result<(), BoxError> {
    ANALYZED.lock().unwrap().push(log.message);
    Ok(())
}

// [pattern]
fn build_conditional_pipeline(
    cancel: &CancelToken,
    logs: Stream<LogEntry>,
) -> Stream<ProcessedLog> {
    let critical_processor = AsyncMapper::new(|_: &CancelToken, log: &LogEntry| {
        send_critical(log)?;
        streamz::ok(ProcessedLog { log: log.clone(), action: "alerted" })
    })
    .with_workers(10);
    let security_processor = AsyncMapper::new(|_: &CancelToken, log: &LogEntry| {
        analyze(log)?;
        streamz::ok(ProcessedLog { log: log.clone(), action: "security-analyzed" })
    })
    .with_workers(5);
    let standard_processor =
        Mapper::new(|log: LogEntry| ProcessedLog { log, action: "logged" });

    let log_switch = Switch::new()
        .case(
            "critical",
            |log: &LogEntry| log.level == "FATAL" || log.level == "ERROR",
            critical_processor,
        )
        .case(
            "security",
            |log: &LogEntry| {
                log.message.contains("unauthorized")
                    || log.message.contains("authentication failed")
            },
            security_processor,
        )
        .with_default(standard_processor)
        .with_name("log-router");

    log_switch.process(cancel, logs)
}
// [/pattern]

#[test]
fn the_first_case_that_fits_decides() {
    let (_clock, pipeline) = pipeline();
    let entry = |level, message| LogEntry { level, message };
    let logs = [
        entry("INFO", "started"),
        entry("WARN", "authentication failed for root"),
        entry("FATAL", "unauthorized access"),
        entry("ERROR", "disk full"),
    ];
    let processed = build_conditional_pipeline(&pipeline, Stream::from_iter(&pipeline, logs));
    let mut actions: Vec<_> =
        processed.map(|done| (done.log.message, done.action)).collect::<Vec<_>>().unwrap();
    actions.sort_unstable();
    let expected = [
        ("authentication failed for root", "security-analyzed"),
        ("disk full", "alerted"),
        ("started", "logged"),
        ("unauthorized access", "alerted"),
    ];
    assert_eq!(actions, expected);
    let mut alerted = ALERTED.lock().unwrap().clone();
    alerted.sort_unstable();
    assert_eq!(
        (&alerted[..], &ANALYZED.lock().unwrap()[..]),
        (&["disk full", "unauthorized access"][..], &["authentication failed for root"][..])
    );
}
