//! Checks that a pipeline accounts for every item.

use streamz::{Report, StageKind, StageReport};

/// Checks the report of a pipeline that has ended, all of whose streams have been dropped.
///
/// - No thread died from a fault of the library, and every step balances.
/// - Between two fused steps: what the first emitted, the second received.
/// - Between stages: emitted = received + undelivered. A stage may have several outputs, and one
///   may have several inputs; then the sums over all stages that hang together are compared.
pub fn check(report: &Report) -> Result<(), String> {
    check_steps(report)?;
    for stage in &report.stages {
        if let Some(output) = stage.outputs.iter().find(|output| output.queued > 0) {
            return Err(format!("output `{}` of `{}` still holds {} items", output.name, stage.name, output.queued));
        }
    }
    for group in groups(report) {
        let emitted: u64 = group.feeders.iter().map(|stage| data_out(stage)).sum();
        let undelivered: u64 = group.feeders.iter().flat_map(|stage| &stage.outputs).map(|out| out.undelivered).sum();
        let received: u64 = group.readers.iter().map(|stage| stage.received()).sum();
        if emitted != received + undelivered {
            let names =
                |stages: &[&StageReport]| stages.iter().map(|stage| &*stage.name).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "[{}] emitted {emitted}, but [{}] received {received}, {undelivered} undelivered\n{report}",
                names(&group.feeders),
                names(&group.readers),
            ));
        }
    }
    Ok(())
}

/// The part of it that holds even while a stream of the pipeline is held.
pub fn check_steps(report: &Report) -> Result<(), String> {
    if !report.faults.is_empty() {
        return Err(format!("faults: {:?}\n{report}", report.faults));
    }
    for stage in &report.stages {
        check_stage(stage).map_err(|what| format!("stage `{}`: {what}\n{stage:#?}", stage.name))?;
    }
    Ok(())
}

fn check_stage(stage: &StageReport) -> Result<(), String> {
    for step in &stage.steps {
        if stage.kind != StageKind::Source && !step.balances() {
            return Err(format!("step `{}` does not balance", step.name));
        }
    }
    for pair in stage.steps.windows(2) {
        if (pair[0].emitted, pair[0].errors_out) != (pair[1].received, pair[1].errors_in) {
            return Err(format!("steps `{}` and `{}` disagree", pair[0].name, pair[1].name));
        }
    }
    Ok(())
}

/// How many data items a stage has put into its outputs. A dead letter counts as an error where it is made, and is
/// data from there on.
fn data_out(stage: &StageReport) -> u64 {
    let letters = stage.outputs.iter().any(|output| &*output.name == "failed");
    stage.emitted() + if letters { stage.steps[0].errors_out } else { 0 }
}

/// Stages that hang together: every reader of one of the feeders, every feeder of one of the readers.
struct Group<'a> {
    feeders: Vec<&'a StageReport>,
    readers: Vec<&'a StageReport>,
}

fn groups(report: &Report) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for stage in report.stages.iter().filter(|stage| matches!(stage.kind, StageKind::Source | StageKind::Processor)) {
        groups.push(Group { feeders: vec![stage], readers: Vec::new() });
    }
    for reader in report.stages.iter().filter(|stage| !stage.inputs.is_empty()) {
        let feeds = |group: &Group<'_>| {
            let feeds = |feeder: &&StageReport| reader.inputs.iter().any(|input| input.stage == feeder.name);
            group.feeders.iter().any(feeds)
        };
        let (mut joined, rest): (Vec<_>, Vec<_>) = groups.into_iter().partition(feeds);
        groups = rest;
        let mut whole = Group { feeders: Vec::new(), readers: vec![reader] };
        for mut part in joined.drain(..) {
            whole.feeders.append(&mut part.feeders);
            whole.readers.append(&mut part.readers);
        }
        groups.push(whole);
    }
    groups
}
