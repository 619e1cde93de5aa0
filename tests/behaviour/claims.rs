//! What the documents claim, and the names they use, can be found in the sources: absolute claims in the tests that prove them,
//! methods and tests where they are declared, environment variables where they are read.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{documents, links};

/// Words that promise everything. They stand only where [`CLAIMS`] names the proof.
const ABSOLUTE: &[&str] = &[
    "nothing is lost",
    "nothing is ever lost",
    "lose nothing",
    "loses nothing",
    "without loss",
    "without a loss",
    "never lost",
    "never lose",
    "no data loss",
    "nothing hangs",
    "never hang",
    "nothing vanishes",
    "nothing disappears",
    "nothing leaks",
    "never leak",
    "no item is lost",
    "no record is lost",
    "guarantee",
    "impossible",
];

/// Tests: file and function.
type Proofs = &'static [(&'static str, &'static str)];

/// Where such words stand, and the tests that prove exactly that.
const CLAIMS: &[(&str, &str, Proofs)] = &[
    (
        "connectors/journal/README.md",
        "nothing is lost",
        &[("connectors/journal/tests/crash.rs", "killed_consumers_lose_nothing")],
    ),
    (
        "connectors/journal/README.md",
        "lose nothing",
        &[("connectors/journal/tests/crash.rs", "killed_workers_lose_nothing")],
    ),
    (
        "connectors/kafka/README.md",
        "nothing is lost",
        &[
            ("connectors/kafka/tests/kafka/faults.rs", "a_broker_that_goes_down_and_comes_back_loses_nothing"),
            ("connectors/kafka/tests/kafka/faults.rs", "brokers_that_stall_delay_and_lose_nothing"),
        ],
    ),
    (
        "connectors/redis/src/inbox.rs",
        "nothing is lost",
        &[("connectors/redis/tests/redis/delivery.rs", "a_lost_group_is_created_again_without_a_loss")],
    ),
    (
        "docs/delivery.md",
        "nothing is lost",
        &[
            ("connectors/journal/tests/faults.rs", "a_full_disk_is_transient_and_loses_nothing"),
            ("connectors/journal/tests/faults.rs", "a_locked_file_is_busy_and_nothing_is_lost"),
            ("connectors/redis/tests/redis/faults.rs", "a_killed_server_loses_nothing"),
            ("connectors/redis/tests/redis/faults.rs", "a_stalled_network_is_noticed_and_loses_nothing"),
            ("examples/tests/programs/durable.rs", "killed_processes_lose_nothing"),
        ],
    ),
    (
        "docs/delivery.md",
        "loses nothing",
        &[
            ("connectors/journal/tests/crash.rs", "killed_workers_lose_nothing"),
            ("connectors/redis/tests/redis/crash.rs", "killed_workers_lose_nothing"),
            ("connectors/kafka/tests/kafka/crash.rs", "a_worker_that_is_killed_loses_nothing"),
        ],
    ),
    (
        "docs/design.md",
        "nothing is lost",
        &[("tests/behaviour/event_time.rs", "labels_that_cannot_be_sent_make_nothing_late")],
    ),
    ("docs/design.md", "lose nothing", &[("examples/tests/programs/durable.rs", "killed_processes_lose_nothing")]),
    ("docs/error-handling.md", "nothing is lost", DEAD_LETTERS),
    (
        "docs/patterns/analytics.md",
        "nothing is lost",
        &[("examples/tests/programs/all.rs", "every_example_keeps_its_promises_and_minds_no_closed_pipe")],
    ),
    (
        "docs/patterns/group_batches.md",
        "nothing is lost",
        &[("src/operators/batch/keyed_batcher.rs", "one_key_too_many_ends_the_oldest_batch")],
    ),
    (
        "examples/etl/main.rs",
        "nothing vanishes",
        &[
            ("examples/tests/programs/etl/shipped_data.rs", "the_shipped_data_is_loaded_as_an_independent_count_says"),
            ("examples/tests/programs/etl/interrupts.rs", "an_interrupt_within_a_file_loses_nothing"),
        ],
    ),
    (
        "examples/log_processing/main.rs",
        "nothing vanishes",
        &[
            ("examples/tests/programs/log_processing/counts.rs", "the_counts_are_those_of_a_calculation"),
            (
                "examples/tests/programs/log_processing/stopping.rs",
                "an_interrupt_reports_results_while_the_input_is_silent",
            ),
        ],
    ),
    ("src/guides.rs", "lose nothing", &[("examples/tests/programs/durable.rs", "killed_processes_lose_nothing")]),
    ("src/operators/resilience/dead_letter.rs", "nothing is lost", DEAD_LETTERS),
    (
        "src/operators/route/fan_in.rs",
        "lose nothing",
        &[("tests/behaviour/event_time.rs", "an_input_that_is_ahead_makes_no_other_items_late")],
    ),
    ("src/operators/route/group_by/dispatcher.rs", "nothing is lost", EVICTED_GROUPS),
    ("src/operators/route/group_by/operator.rs", "nothing is lost", EVICTED_GROUPS),
    (
        "src/operators/window/aggregate/processor.rs",
        "nothing leaks",
        &[("src/operators/window/aggregate/tests.rs", "no_state_leaks_from_one_window_to_the_next")],
    ),
    (
        "src/operators/window/windows.rs",
        "nothing is lost",
        &[("src/operators/window/tests.rs", "windows_closed_early_still_cover_every_item")],
    ),
];

const DEAD_LETTERS: Proofs = &[
    ("tests/behaviour/dead_letters.rs", "nothing_is_lost_when_the_items_are_read_first"),
    ("tests/behaviour/dead_letters.rs", "nothing_is_lost_when_the_failures_are_read_first"),
];

const EVICTED_GROUPS: Proofs =
    &[("src/operators/route/group_by/tests.rs", "more_keys_than_groups_evict_one_another_and_lose_nothing")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    links::pages(root(), &mut pages);
    // The changelog tells of what was.
    pages.retain(|page| !page.ends_with("CHANGELOG.md"));
    pages
}

/// All sources, but not this file.
fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    for folder in ["benches", "connectors", "examples", "loom", "src", "tests"] {
        documents::sources(&root().join(folder), &mut files);
    }
    files.retain(|file| !file.ends_with("claims.rs") && !file.components().any(|part| part.as_os_str() == "target"));
    files.into_iter().map(|file| (file.clone(), fs::read_to_string(&file).unwrap())).collect()
}

fn name(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().to_string_lossy().replace('\\', "/")
}

/// The documentation of a source, or a whole page, in lower case and on one line.
fn prose(file: &Path, source: &str) -> String {
    let is_page = file.extension().is_some_and(|extension| extension == "md");
    let lines = source.lines().filter_map(|line| {
        let line = line.trim_start();
        if is_page { Some(line) } else { line.strip_prefix("//!").or_else(|| line.strip_prefix("///")) }
    });
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ").to_lowercase()
}

#[test]
fn absolute_claims_have_a_test() {
    let sources = sources();
    let documented = sources.iter().filter(|(file, _)| !name(file).contains("tests"));
    let pages = pages().into_iter().map(|page| (page.clone(), fs::read_to_string(page).unwrap()));
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (file, source) in documented.cloned().chain(pages) {
        let (name, prose) = (name(&file), prose(&file, &source));
        for words in ABSOLUTE {
            for (at, _) in prose.match_indices(words) {
                let claim = CLAIMS.iter().position(|(place, claim, _)| *place == name && claim == words);
                match claim {
                    Some(claim) => _ = used.insert(claim),
                    None => {
                        let around = |from: usize| prose.char_indices().map(|(i, _)| i).find(|&i| i >= from);
                        let begin = around(at.saturating_sub(60)).unwrap();
                        let end = around(at + words.len() + 40).unwrap_or(prose.len());
                        wrong.push(format!("{name}: no proof is named of: .. {} ..", &prose[begin..end]));
                    }
                }
            }
        }
    }
    for (index, (place, claim, proofs)) in CLAIMS.iter().enumerate() {
        if !used.contains(&index) {
            wrong.push(format!("{place} does not claim: {claim}"));
        }
        for (file, test) in *proofs {
            let is_there = |(source, text): &(PathBuf, String)| {
                name(source) == *file && [format!("fn {test}("), format!("fn {test}<")].iter().any(|f| text.contains(f))
            };
            if !sources.iter().any(is_there) {
                wrong.push(format!("{file} has no test {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether it is a name as long as only tests have them.
fn is_test(span: &str) -> bool {
    span.split('_').count() > 4 && span.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The last part of `Type::method` or `Type::method(..)`.
fn method(span: &str) -> Option<&str> {
    let (type_name, rest) = span.split_once("::")?;
    let method = rest.split('(').next().unwrap();
    let is_word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (type_name.starts_with(|c: char| c.is_ascii_uppercase()) && is_word(type_name) && is_word(method)).then_some(method)
}

#[test]
fn names_in_the_documents_are_in_the_sources() {
    let sources = sources();
    let words: BTreeSet<&str> =
        sources.iter().flat_map(|(_, text)| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')).collect();
    let (mut seen, mut wrong) = (0, Vec::new());
    for page in pages() {
        for span in documents::code(&fs::read_to_string(&page).unwrap()) {
            let Some(word) = is_test(&span).then_some(span.as_str()).or_else(|| method(&span)) else { continue };
            seen += 1;
            if !words.contains(word) {
                wrong.push(format!("{}: `{span}`", name(&page)));
            }
        }
    }
    assert!(seen > 200, "only {seen} names were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// All words that begin so and go on in capitals.
fn capitals<'a>(text: &'a str, begin: &'a str) -> impl Iterator<Item = &'a str> {
    let word = |at| text[at..].split(|c: char| !c.is_ascii_uppercase() && c != '_').next().unwrap();
    text.match_indices(begin).map(move |(at, _)| word(at)).filter(|word| !word.ends_with('_'))
}

#[test]
fn environment_variables_are_listed_where_they_are_read() {
    let sources = sources();
    let read = sources.iter().flat_map(|(_, text)| capitals(text, "STREAMZ_"));
    // Those with TEST are how a test talks to the processes that it starts.
    let read: BTreeSet<&str> = read.filter(|variable| !variable.contains("_TEST_")).collect();
    let list = fs::read_to_string(root().join("CONTRIBUTING.md")).unwrap();
    let (_, table) = list.split_once("\n## Environment variables\n").unwrap();
    let table = table.split("\n## ").next().unwrap();
    let listed: BTreeSet<&str> = capitals(table, "STREAMZ_").collect();
    assert_eq!(listed, read, "the table of CONTRIBUTING.md, and what the sources read");
    let mut texts: Vec<PathBuf> = pages();
    texts.extend([".ci/run", ".github/workflows/ci.yml"].map(|file| root().join(file)));
    for text in texts {
        let source = fs::read_to_string(&text).unwrap();
        for variable in capitals(&source, "STREAMZ_") {
            assert!(read.contains(variable), "{}: `{variable}` is not read", name(&text));
        }
    }
}

#[test]
fn knows_names_and_variables_when_it_sees_them() {
    assert!(
        is_test("a_key_that_panics_loses_nothing") && !is_test("max_in_flight") && !is_test("a test_with_a_space_it")
    );
    assert_eq!(method("Stream::fold(0, add)"), Some("fold"));
    assert_eq!((method("stream::fold"), method("Stream::<T>::fold"), method("fold")), (None, None, None));
    assert_eq!(
        capitals("STREAMZ_A=1 STREAMZ_ STREAMZ_B_C", "STREAMZ_").collect::<Vec<_>>(),
        ["STREAMZ_A", "STREAMZ_B_C"]
    );
}
