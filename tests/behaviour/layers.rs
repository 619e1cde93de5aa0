//! Each folder of `src` imports only what is below it: the order is that of `docs/design.md`.
//!
//! Code under `#[cfg(test)]` may use the whole crate, and so may documentation.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// From the bottom up. A file at the root of `src` is a layer of its own name.
const LAYERS: [&[&str]; 10] = [
    &["data", "error", "mark", "panic", "sync", "trace"],
    &["clock"],
    &["edge"],
    &["pipeline"],
    &["observe", "stage"],
    &["stream"],
    &["operators"],
    &["delivery"],
    &["testing"],
    &["lib", "prelude", "guides", "patterns", "compile_fail"],
];

fn layer_of(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// What follows `crate::` in the code of `text`, up to its tests.
fn imports(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = text.lines().enumerate().take_while(|(_, line)| *line != "mod tests {");
    let code = code.filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(number, line)| {
        line.split("crate::").skip(1).map(move |rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            (number + 1, &rest[..end])
        })
    })
}

fn check(folder: &Path, layer: Option<usize>, upward: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let own = layer.or_else(|| layer_of(name)).unwrap_or_else(|| panic!("{name} has no layer"));
        if path.is_dir() {
            check(&path, Some(own), upward);
        } else if name != "tests" {
            let text = fs::read_to_string(&path).unwrap();
            for (line, import) in imports(&text) {
                // A name at the root of the crate is written by macros and tests only.
                if layer_of(import).is_some_and(|other| other > own) {
                    upward.push(format!("{}:{line} uses crate::{import}", path.display()));
                }
            }
        }
    }
}

#[test]
fn every_folder_imports_only_from_folders_below() {
    let mut upward = Vec::new();
    check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut upward);
    assert!(upward.is_empty(), "{upward:#?}");
}

#[test]
fn sees_an_import_and_no_comment() {
    let text =
        "use crate::stage::Pass;\n// crate::stream\n    crate::clock::now();\nmod tests {\nuse crate::testing;\n";
    assert_eq!(imports(text).collect::<Vec<_>>(), [(1, "stage"), (3, "clock")]);
}

/// What is logged goes to a subscriber of `tracing`, too, if there is one.
#[test]
fn everything_is_logged_through_one_module() {
    fn search(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                search(&path, found);
            } else if path.file_name().unwrap() != "trace.rs" {
                let text = fs::read_to_string(&path).unwrap();
                let calls = ["error", "warn", "info", "debug", "trace"].map(|level| format!("log::{level}!("));
                found.extend(calls.iter().filter(|call| text.contains(*call)).map(|call| format!("{path:?}: {call}")));
            }
        }
    }
    let mut found = Vec::new();
    search(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.is_empty(), "use `event!` of trace.rs: {found:#?}");
}

/// The public names that a `mod.rs` defines or re-exports.
fn exports(text: &str) -> BTreeSet<&str> {
    let uses = text.split("\npub use ").skip(1).map(|rest| rest.split_once(';').unwrap().0);
    let lists = uses.map(|path| path.split_once('{').map_or(path, |(_, names)| names.trim_end().trim_end_matches('}')));
    let names = lists.flat_map(|names| names.split(',')).map(|name| name.trim().rsplit("::").next().unwrap());
    let defined = ["\npub mod ", "\npub struct "].into_iter().flat_map(|start| text.split(start).skip(1));
    let defined = defined.map(|rest| &rest[..rest.find([' ', ';']).unwrap()]);
    names.chain(defined).filter(|name| !["", "*"].contains(name)).collect()
}

#[test]
fn the_prelude_has_everything_that_operators_export() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let prelude = read(&src.join("prelude.rs"));
    let prelude = exports(&prelude);
    let entries = fs::read_dir(src.join("operators")).unwrap().map(|entry| entry.unwrap().path());
    // `folds` is a public module, and is in the prelude as such.
    let folders = entries.filter(|path| path.is_dir() && !path.ends_with("folds")).map(|path| path.join("mod.rs"));
    let texts: Vec<String> = folders.chain([src.join("operators/mod.rs")]).map(|path| read(&path)).collect();
    let missing: Vec<&str> =
        texts.iter().flat_map(|text| exports(text)).filter(|name| !prelude.contains(name)).collect();
    assert!(texts.len() > 5 && missing.is_empty(), "{missing:?}");
}

#[test]
fn sees_every_form_of_an_export() {
    let text = "\npub use a::{B, c};\npub use d::E;\npub use f::*;\npub mod g;\npub struct H {\n}\npub(crate) use i::j;\nmod k;\n";
    assert_eq!(exports(text), BTreeSet::from(["B", "c", "E", "g", "H"]));
}
