//! What the Markdown files, comments and scripts say of this repository is so: the commands they quote exist, with their options, the
//! files they name are there, and the figures of the README are those of `docs/performance.md`.
//!
//! With `STREAMZ_UPDATE_DOCS=1` the figures are copied into the README instead:
//!
//! ```sh
//! STREAMZ_UPDATE_DOCS=1 cargo test --test behaviour documents
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::links;

/// Where the packages are.
const PACKAGES: &[&str] = &[
    ".",
    "benches/peers",
    "connectors/journal",
    "connectors/kafka",
    "connectors/redis",
    "connectors/suite",
    "examples",
    "examples/durable",
    "examples/etl",
    "examples/log_processing",
    "loom",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What cargo can be asked for in a package.
struct Package {
    name: String,
    folder: PathBuf,
    features: BTreeSet<String>,
}

impl Package {
    fn read(folder: &str) -> Self {
        let folder = root().join(folder);
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let (_, package) = manifest.split_once("[package]").unwrap();
        let name = package.split('"').nth(1).unwrap().to_owned();
        let features = manifest.split_once("[features]\n").map_or("", |(_, rest)| rest);
        let lines = features.lines().take_while(|line| !line.starts_with('['));
        let features = lines.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.to_owned()).collect();
        Self { name, folder, features }
    }

    /// Whether it has a target of this kind: `example`, `test` or `bench`.
    fn has(&self, kind: &str, name: &str) -> bool {
        let folder = match kind {
            "example" if self.is_program() => return self.folder.ends_with(name),
            // Its own folder has that name.
            "example" if self.folder.ends_with("examples") => self.folder.clone(),
            "bench" => self.folder.join("benches"),
            _ => self.folder.join(format!("{kind}s")),
        };
        let files = folder.join(name);
        files.with_extension("rs").exists() || files.join("main.rs").exists() && !files.join("Cargo.toml").exists()
    }

    /// Whether it is an example that is a package of its own.
    fn is_program(&self) -> bool {
        self.folder.join("main.rs").exists()
    }

    /// Whether the sources of its program, or of an example, have an option of this name: clap makes `--dead-letters` of `dead_letters`.
    fn has_option(&self, example: Option<&str>, option: &str) -> bool {
        let mut files = Vec::new();
        match example {
            Some(_) if self.is_program() => sources(&self.folder, &mut files),
            Some(name) => {
                for folder in [self.folder.clone(), self.folder.join("examples")] {
                    files.push(folder.join(name).with_extension("rs"));
                    sources(&folder.join(name), &mut files);
                }
            }
            None => sources(&self.folder.join("src"), &mut files),
        }
        let (option, field) = (format!("{option}\""), format!("{}:", option[2..].replace('-', "_")));
        let is_in = |file: &PathBuf| {
            fs::read_to_string(file).is_ok_and(|source| source.contains(&option) || source.contains(&field))
        };
        option == "--help\"" || files.iter().any(is_in)
    }

    /// Whether a word occurs in its tests, or in the path of one.
    fn has_tests_with(&self, word: &str) -> bool {
        ["src", "tests"].iter().any(|folder| {
            let mut files = Vec::new();
            sources(&self.folder.join(folder), &mut files);
            let inside = |file: &PathBuf| file.strip_prefix(&self.folder).unwrap().to_string_lossy().contains(word);
            files.iter().any(|file| inside(file) || fs::read_to_string(file).unwrap().contains(word))
        })
    }
}

pub(super) fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The lines of shell code of a page, and its spans of code.
pub(super) fn code(source: &str) -> Vec<String> {
    let (mut code, mut fence) = (Vec::new(), None);
    for line in source.lines() {
        match (line.trim_start().strip_prefix("```"), &fence) {
            (Some(language), None) => fence = Some(language.to_owned()),
            (Some(_), Some(_)) => fence = None,
            (None, Some(language)) if language == "sh" => {
                code.push(line.split(" #").next().unwrap_or(line).trim().to_owned());
            }
            (None, Some(_)) => {}
            (None, None) => code.extend(line.split('`').skip(1).step_by(2).map(str::to_owned)),
        }
    }
    code
}

/// How many columns of code rustdoc shows on a wide screen without a scroll bar.
const COLUMNS: usize = 96;

/// The lines of code that are wider than that. Those that rustdoc hides do not count, nor does the output of programs.
fn wide_lines(source: &str) -> Vec<&str> {
    let (mut wide, mut fence) = (Vec::new(), None);
    for line in source.lines() {
        match (line.trim_start().strip_prefix("```"), fence) {
            (Some(language), None) => fence = Some(language),
            (Some(_), Some(_)) => fence = None,
            (None, Some(language)) => {
                let is_shown = !["text", "mermaid"].contains(&language) && !line.starts_with("# ");
                wide.extend((is_shown && line.chars().count() > COLUMNS).then_some(line));
            }
            (None, None) => {}
        }
    }
    wide
}

/// The comments of a source, as a page.
fn comments(source: &str) -> String {
    let mut page = String::new();
    for line in source.lines().map(str::trim_start).filter(|line| line.starts_with("//")) {
        let text = line.trim_start_matches('/').trim_start_matches('!');
        page.push_str(text.strip_prefix(' ').unwrap_or(text));
        page.push('\n');
    }
    page
}

/// The lines of a shell script or of a workflow that call cargo.
fn calls(script: &str) -> Vec<String> {
    let lines = script.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let lines = lines.filter(|line| line.split(' ').any(|word| word == "cargo"));
    lines.map(|line| line.split(" # ").next().unwrap().replace('"', "")).collect()
}

/// A word that stands for something, such as NAME.
fn is_placeholder(word: &str) -> bool {
    word.contains(['$', '{']) || word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

/// What is wrong with a command, if it is one of cargo's.
fn check_command(packages: &[Package], command: &str) -> Result<(), String> {
    let mut words = command.split_whitespace().skip_while(|&word| word != "cargo").skip(1).peekable();
    words.next_if(|word| word.starts_with('+'));
    if words.peek().is_some_and(|word| word.starts_with('-')) {
        return Ok(());
    }
    let Some(subcommand) = words.next() else { return Ok(()) };
    match subcommand {
        "run" | "test" | "bench" | "build" | "check" | "clippy" | "doc" | "fmt" | "package" | "publish" | "rustdoc" => {
        }
        // Of other programs, or of other packages.
        "add" | "deny" | "install" | "mutants" | "public-api" | "semver-checks" => return Ok(()),
        _ => return Err(format!("no command `cargo {subcommand}`")),
    }
    let (mut chosen, mut targets, mut features, mut filters) = (None, Vec::new(), Vec::new(), Vec::new());
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--" => {
                if targets.contains(&("test", "conformance")) {
                    filters.extend(words);
                } else if subcommand == "run" {
                    options.extend(words.take_while(|word| *word != ">").filter(|word| word.starts_with("--")));
                }
                break;
            }
            "--exclude" | "--target-dir" | "--to" => _ = words.next(),
            "-p" | "--package" => {
                let name = words.next().filter(|name| !is_placeholder(name));
                chosen = name.map(|name| packages.iter().find(|package| package.name == name))
            }
            "--manifest-path" => {
                let path = words.next().filter(|path| !is_placeholder(path));
                let folder = path.and_then(|path| Path::new(path).parent()).map(|folder| root().join(folder));
                chosen = folder.map(|folder| packages.iter().find(|package| package.folder == folder));
            }
            "--example" => targets.push(("example", words.next().unwrap_or(""))),
            "--test" => targets.push(("test", words.next().unwrap_or(""))),
            "--bench" => targets.push(("bench", words.next().unwrap_or(""))),
            "--features" => features.extend(words.next().unwrap_or("").split(',')),
            "|" | "||" | "&&" | ">" | ";;" => break,
            _ if word.starts_with('-') || is_placeholder(word) => {}
            _ if subcommand == "test" => filters.push(word),
            _ => return Err(format!("`{word}` is not expected")),
        }
    }
    let chosen = match chosen {
        Some(None) => return Err("no such package".to_owned()),
        Some(Some(package)) => std::slice::from_ref(package),
        None => packages,
    };
    for &(kind, name) in targets.iter().filter(|(_, name)| !is_placeholder(name)) {
        if !chosen.iter().any(|package| package.has(kind, name)) {
            return Err(format!("no {kind} `{name}`"));
        }
    }
    let example = targets.iter().find(|(kind, _)| *kind == "example").map(|(_, name)| *name);
    for option in options.into_iter().filter(|_| !example.is_some_and(is_placeholder)) {
        if !chosen.iter().any(|package| package.has_option(example, option)) {
            return Err(format!("no option `{option}`"));
        }
    }
    if let Some(feature) = features.iter().find(|&&name| !chosen.iter().any(|package| package.features.contains(name)))
    {
        return Err(format!("no feature `{feature}`"));
    }
    for word in filters.into_iter().filter(|word| !word.starts_with('-') && !is_placeholder(word)) {
        if !chosen.iter().any(|package| word.split("::").all(|part| package.has_tests_with(part))) {
            return Err(format!("no test with `{word}` in its name"));
        }
    }
    Ok(())
}

/// Whether it is a path in this repository, or below the page's folder, that is not there.
fn is_lost(page: &Path, span: &str) -> bool {
    let folders = [".ci/", ".cargo/", "benches/", "connectors/", "docs/", "examples/", "loom/", "src/", "tests/"];
    let is_path = span.chars().all(|c| c.is_ascii_alphanumeric() || "./_-".contains(c));
    let is_path = is_path && folders.iter().any(|folder| span.starts_with(folder));
    let is_real = !span.split(['/', '.']).any(|part| !part.is_empty() && is_placeholder(part));
    is_path && is_real && !root().join(span).exists() && !page.with_file_name(span).exists()
}

/// Whether it looks like a file of the library that is not there. The design page leaves out the first folders.
fn is_unknown(library: &[String], span: &str) -> bool {
    let is_file = span.ends_with(".rs") && span.contains('/') && !span.contains([' ', '*']);
    is_file && !library.iter().any(|file| file.ends_with(&format!("/{span}")))
}

#[test]
fn every_command_and_path_in_the_documents_exists() {
    let packages: Vec<Package> = PACKAGES.iter().map(|folder| Package::read(folder)).collect();
    let mut files = Vec::new();
    links::pages(root(), &mut files);
    let mut library = Vec::new();
    for folder in ["src", "tests"] {
        sources(&root().join(folder), &mut library);
    }
    let library: Vec<String> = library.iter().map(|file| file.to_string_lossy().into_owned()).collect();
    let (mut commands, mut wrong) = (0, Vec::new());
    let mut check = |file: &Path, code: String| {
        let (name, is_design) = (file.strip_prefix(root()).unwrap().display(), file.ends_with("docs/design.md"));
        if code.split_whitespace().any(|word| word == "cargo") {
            commands += 1;
            wrong.extend(check_command(&packages, &code).err().map(|what| format!("{name}: `{code}`: {what}")));
        } else if is_lost(file, &code) || is_design && is_unknown(&library, &code) {
            wrong.push(format!("{name}: `{code}` is not there"));
        }
    };
    // The changelog tells of what was.
    for file in files.iter().filter(|file| !file.ends_with("CHANGELOG.md")) {
        code(&fs::read_to_string(file).unwrap()).into_iter().for_each(|code| check(file, code));
    }
    let mut files = Vec::new();
    for folder in ["benches", "connectors", "examples", "loom", "src", "tests"] {
        sources(&root().join(folder), &mut files);
    }
    // This file quotes what does not exist.
    for file in files.iter().filter(|file| !file.ends_with("documents.rs")) {
        code(&comments(&fs::read_to_string(file).unwrap())).into_iter().for_each(|code| check(file, code));
    }
    for folder in [".ci", ".github/workflows"] {
        for file in fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()) {
            calls(&fs::read_to_string(&file).unwrap()).into_iter().for_each(|call| check(&file, call));
        }
    }
    assert!(commands > 130, "only {commands} commands were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn code_fits_the_width_of_a_page() {
    let mut pages = Vec::new();
    links::pages(&root().join("docs"), &mut pages);
    pages.retain(|page| !page.starts_with(root().join("docs/pictures"))); // not a part of rustdoc
    assert!(pages.len() > 30);
    let mut texts: Vec<(PathBuf, String)> = pages
        .into_iter()
        .chain([root().join("README.md")])
        .map(|page| (page.clone(), fs::read_to_string(page).unwrap()))
        .collect();
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    texts.extend(files.into_iter().map(|file| (file.clone(), comments(&fs::read_to_string(file).unwrap()))));
    let wide: Vec<String> = texts
        .iter()
        .flat_map(|(page, text)| wide_lines(text).into_iter().map(move |line| format!("{}: {line}", page.display())))
        .collect();
    assert!(wide.is_empty(), "more than {COLUMNS} columns: {wide:#?}");
}

#[test]
fn sees_a_line_of_code_that_is_too_wide() {
    let (long, fits) = ("x".repeat(COLUMNS + 1), "x".repeat(COLUMNS));
    let page = format!("{long}\n```rust\n{fits}\n# {long}\n{long}\n```\n```text\n{long}\n```\n");
    assert_eq!(wide_lines(&page), [long.as_str()]);
}

#[test]
fn knows_a_command_that_does_not_exist() {
    let packages: Vec<Package> = PACKAGES.iter().map(|folder| Package::read(folder)).collect();
    for good in [
        "cargo run --release --example etl -- --help",
        "cargo run --release --example NAME",
        "STREAMZ_UPDATE_DOCS=1 cargo test --test behaviour documents",
        "cargo test --test conformance -- cancel Batcher",
        "cargo +nightly bench -p streamz --bench observed --features metrics,tracing --no-run",
        "cargo test --manifest-path loom/Cargo.toml --locked",
        "cargo run --release --example etl -- --json --picture > picture.mmd",
        "cargo run --release --manifest-path benches/peers/Cargo.toml -- instructions --check",
        "step cargo fmt --all --manifest-path $package/Cargo.toml -- --check",
    ] {
        assert_eq!(check_command(&packages, good), Ok(()), "{good}");
    }
    for bad in [
        "cargo rnu",
        "cargo run --example tle",
        "cargo test --test behaviour no_test_has_this_na\u{6d}e",
        "cargo test --test conformance -- no_promise_has_this_na\u{6d}e",
        "cargo bench --bench observed --features metrix",
        "cargo test -p streamz-pulsar",
        "cargo run -p streamz-examples --example etl",
        "cargo test -p streamz-journal --test manual_clock",
        "cargo check --manifest-path looms/Cargo.toml",
        "cargo run --example etl -- --no-such-option",
    ] {
        assert!(check_command(&packages, bad).is_err(), "{bad}");
    }
    let page = root().join("loom/README.md");
    for there in ["docs/design.md", "docs/patterns/NAME.md", "src/models.rs", "src/operators", "no-such.md"] {
        assert!(!is_lost(&page, there), "{there}");
    }
    assert!(is_lost(&page, "docs/no-such.md"));
    assert_eq!(comments("let a; // b\n//! c\n    /// `d`\n"), "c\n`d`\n");
    assert_eq!(calls("# cargo a\nstep cargo b \"$c\" # d\n"), ["step cargo b $c"]);
    assert_eq!(code("`a` b `c`\n```sh\nd # e\n```\n```text\nf\n```\n"), ["a", "c", "d"]);
}

/// The counts, versions and features that the README names are those of the repository.
#[test]
fn the_readme_counts_right() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let patterns = fs::read_dir(root().join("docs/patterns")).unwrap().count();
    assert!(readme.contains(&format!("[{patterns} patterns](docs/patterns.md)")), "there are {patterns} patterns");

    let operators = fs::read_to_string(root().join("docs/operators.md")).unwrap();
    let first_cells =
        operators.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let operators: usize = first_cells.map(|cell| cell.split(", ").count()).sum();
    assert!(readme.contains("More than 50 operators") && operators > 50, "there are {operators} operators");

    let oldest = |folder: &str| {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        let (_, version) = manifest.split_once("\nrust-version = \"").unwrap();
        version.split('"').next().unwrap().to_owned()
    };
    let (library, journal, examples) = (oldest("."), oldest("connectors/journal"), oldest("examples"));
    assert_eq!(journal, examples);
    let sentence = format!("It needs Rust {library} or later (`streamz-journal` and the examples: {journal}).");
    assert!(readme.contains(&sentence), "the README does not say: {sentence}");

    for feature in Package::read(".").features {
        assert!(readme.contains(&format!("\n| `{feature}` | ")), "the README does not name the feature `{feature}`");
    }
}

/// The works that the README shows, and what it calls them.
const WORKS: &[(&str, &str)] = &[
    ("hop", "source, map, sink on three threads"),
    ("chain5", "source, five maps, sink on seven threads"),
    ("chain5-fused", "the same on one thread"),
    ("pool-0.3us-ordered", "0.3 µs of computing, two workers, in order"),
    ("pool-0.3us-unordered-2", "0.3 µs of computing, two workers, in any order"),
    ("pool-sleep", "1 ms of waiting, 50 workers, in order"),
];

/// The columns, each with the names that the system has in the tables, the best form of it first.
const SYSTEMS: &[(&str, &[&str])] = &[
    ("streamz", &["streamz-fused", "streamz"]),
    ("by hand", &["crossbeam"]),
    ("rayon", &["rayon"]),
    ("pariter", &["pariter"]),
    ("tokio", &["tokio"]),
    ("renoir", &["renoir"]),
];

/// The medians of a work, by system, as the performance page prints them.
fn medians(page: &str, work: &str) -> BTreeMap<String, String> {
    let (_, section) = page.split_once(&format!("\n### {work}\n")).unwrap_or_else(|| panic!("no figures of `{work}`"));
    let section = section.split("\n### ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| row.split('|').map(str::trim).collect::<Vec<_>>())
        .map(|cells| (cells[1].to_owned(), cells[3].to_owned()))
        .collect()
}

fn figures(page: &str) -> String {
    let names: Vec<&str> = SYSTEMS.iter().map(|(name, _)| *name).collect();
    let mut table = format!("| work | {} |\n|---|{}\n", names.join(" | "), "--:|".repeat(names.len()));
    for (work, meaning) in WORKS {
        let medians = medians(page, work);
        let median =
            |systems: &[&str]| systems.iter().find_map(|&system| medians.get(system)).map_or("", String::as_str);
        let cells: Vec<&str> = SYSTEMS.iter().map(|(_, systems)| median(systems)).collect();
        assert!(!cells[0].is_empty(), "`{work}` has no figure of streamz");
        table.push_str(&format!("| {meaning} | {} |\n", cells.join(" | ")));
    }
    table
}

#[test]
fn the_readme_has_the_figures_of_the_performance_page() {
    let (begin, end) =
        ("<!-- figures of docs/performance.md: begin -->\n", "<!-- figures of docs/performance.md: end -->");
    let path = root().join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(begin).unwrap();
    let (shown, after) = rest.split_once(end).unwrap();
    let expected = format!("\n{}\n", figures(&fs::read_to_string(root().join("docs/performance.md")).unwrap()));
    if std::env::var_os("STREAMZ_UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{begin}{expected}{end}{after}")).unwrap();
    } else {
        let hint = "STREAMZ_UPDATE_DOCS=1 cargo test --test behaviour documents";
        assert!(shown == expected, "the figures of the README are others: {hint}\n{expected}");
    }
}
