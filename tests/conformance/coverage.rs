//! A new operator that is not registered fails the suite.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::operators;

/// Public names beside the operators that are no processors, so that they cannot be put through the list.
const NO_OPERATORS: &[&str] = &[
    // It is one, of a feature that need not be on; tests/behaviour/latency.rs has its tests.
    "AgeMeter",
    "ByHash",
    "ByRef",
    "ByRule",
    "ByValue",
    "Call",
    "CallError",
    "CallFailure",
    "CallLayer",
    "CallStage",
    "Circuit",
    "CircuitState",
    "CircuitStats",
    "ConcurrencyStats",
    "DeadLetter",
    "DedupeStats",
    "DlqStats",
    "FailureLimit",
    "GroupByStats",
    "GroupOverflow",
    "HedgeStats",
    "Hub",
    "KeyOf",
    "Lagged",
    "KeyedScanStats",
    "LimitStats",
    "NotSorted",
    "OutOfOrder",
    "NoSubscriber",
    "Overflow",
    "PartitionStats",
    "Partitioner",
    "Rejection",
    "RetryStats",
    "RouteStats",
    "RouterOutput",
    "SplitStats",
    "StreamStats",
    "TapStats",
    "TooFarAhead",
    "SlowSubscriber",
    "TooLate",
    "TooSlow",
    "TooManyGroups",
    "TooManyHeld",
];

/// What goes with an operator, and needs no row of its own in docs/operators.md.
const NO_ROW: &[&str] = &[
    "AggregateWindow",
    "BatchConfig",
    "DlqOutput",
    "JoinSide",
    "Keyed",
    "Pair",
    "PartitionOutput",
    "Removal",
    "Revised",
    "SplitOutput",
    "Window",
    "with_init",
];

pub fn every_operator_is_registered() {
    let registered: BTreeSet<String> = operators::covered().into_iter().map(str::to_owned).collect();
    let others: BTreeSet<String> = NO_OPERATORS.iter().copied().map(str::to_owned).collect();
    let public = public_names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/operators"));
    assert!(public.contains("Mapper"), "the search for public operators found only {public:?}");
    let known: BTreeSet<String> = registered.union(&others).cloned().collect();
    let missing: Vec<&String> = public.difference(&known).collect();
    assert!(missing.is_empty(), "register these in tests/conformance/operators: {missing:?}");
    let stale: Vec<&String> = known.difference(&public).collect();
    assert!(stale.is_empty(), "registered, but not public: {stale:?}");
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md")).unwrap();
    let is_listed = |name: &&String| guide.contains(&format!("`{name}`")) || NO_ROW.contains(&name.as_str());
    let unlisted: Vec<&String> = registered.iter().filter(|name| !is_listed(name)).collect();
    assert!(unlisted.is_empty(), "docs/operators.md has no row for {unlisted:?}");
}

/// The names of types that the modules of the operators re-export from the files in which they are made. The folds are no
/// operators.
fn public_names(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for module in modules(folder).into_iter().filter(|module| !module.ends_with("folds/mod.rs")) {
        let source = fs::read_to_string(&module).unwrap_or_else(|error| panic!("{}: {error}", module.display()));
        for statement in source.split("pub use ").skip(1) {
            let path = statement.split(';').next().unwrap_or("");
            let list = path.rsplit("::").next().unwrap_or("");
            let list = if path.contains('{') { path.split_once('{').map_or("", |(_, list)| list) } else { list };
            let list = list.trim_end().trim_end_matches('}');
            let public = list.split(',').map(|name| name.rsplit(" as ").next().unwrap_or(name).trim());
            names.extend(public.filter(|name| !name.is_empty() && *name != "*").map(str::to_owned));
        }
    }
    names
}

fn modules(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of the operators").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(modules(&path));
        } else if path.file_name().is_some_and(|name| name == "mod.rs") {
            found.push(path);
        }
    }
    found
}
