//! A panic about a mistake names the argument as the signature does.
//!
//! Most of this reads the sources: each message that begins with a name in backticks and says what it must be.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use streamz::{AsyncMapper, CancelToken, FanOut, ManualClock, Partition, Pipeline, Stream};

/// The sources of the library, without unit tests in files of their own.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
                let source = fs::read_to_string(&path).unwrap();
                sources.push((path, source));
            }
        }
    }
    sources.sort();
    sources
}

#[derive(Debug, Default)]
struct Function {
    name: String,
    is_public: bool,
    parameters: BTreeSet<String>,
}

impl Function {
    /// Reads a signature up to its body.
    fn of(signature: &str) -> Option<Self> {
        let is_public = signature.starts_with("pub fn ") || signature.starts_with("pub const fn ");
        let (before, rest) = signature.split_once("fn ")?;
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let words = rest.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
        let parameters = words.filter_map(|word| word.strip_suffix(':')).map(str::to_owned).collect();
        (before.is_empty() || before.starts_with("pub") || before == "const ").then_some(Self {
            name,
            is_public,
            parameters,
        })
    }

    /// The option that it sets, if it is a setter.
    fn option(&self) -> &str {
        self.name.strip_prefix("with_").unwrap_or(&self.name)
    }
}

/// A message, and the function that panics with it.
#[derive(Debug)]
struct Message {
    text: String,
    function: usize,
}

/// The functions and messages of a source, and its public fields and those of the variants of its enums.
fn read(source: &str) -> (Vec<Function>, Vec<Message>, BTreeSet<String>) {
    let (mut functions, mut messages, mut fields) = (vec![Function::default()], Vec::new(), BTreeSet::new());
    let (mut signature, mut in_enum) = (None::<String>, false);
    let code = source.lines().take_while(|line| !line.starts_with("mod tests"));
    for line in code.map(str::trim).filter(|line| !line.starts_with("//")) {
        let starts = ["pub fn ", "pub const fn ", "fn ", "pub(crate) fn ", "pub(super) fn ", "pub(in "];
        if starts.iter().any(|start| line.starts_with(start)) && line.contains("fn ") {
            signature = Some(String::new());
        } else if let Some((name, _)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(':')) {
            fields.insert(name.to_owned());
        } else if let Some((name, _)) = line.split_once(": ").filter(|_| in_enum) {
            fields.insert(name.to_owned());
        }
        in_enum = line.starts_with("pub enum ") || in_enum && !line.starts_with("impl");
        if let Some(open) = &mut signature {
            open.push_str(line);
            open.push(' ');
            if line.ends_with(['{', '}', ';']) {
                functions.extend(signature.take().and_then(|signature| Function::of(&signature)));
            }
        }
        for text in line.split('"').skip(1).step_by(2) {
            if text.starts_with('`') && text.contains(" must ") {
                messages.push(Message { text: text.to_owned(), function: functions.len() - 1 });
            }
        }
    }
    (functions, messages, fields)
}

/// The messages whose first name is not that of an argument, of the option that the function sets, or, if they are about
/// a combination of options, of one of these; and how many were looked at.
fn misnamed(sources: &[(PathBuf, String)]) -> (Vec<String>, usize) {
    let read: Vec<_> = sources.iter().map(|(path, source)| (path, read(source))).collect();
    let options = |functions: &[Function]| -> BTreeSet<String> {
        functions.iter().filter(|function| function.is_public).map(|function| function.option().to_owned()).collect()
    };
    let anywhere: BTreeSet<String> = read
        .iter()
        .flat_map(|(_, (functions, _, fields))| options(functions).into_iter().chain(fields.clone()))
        .collect();
    let (mut misnamed, mut count) = (Vec::new(), 0);
    for (path, (functions, messages, fields)) in &read {
        let here = options(functions);
        for message in messages {
            let name = message.text.trim_start_matches('`').split('`').next().unwrap();
            if name.starts_with('{') {
                continue;
            }
            count += 1;
            let function = &functions[message.function];
            let is_right = function.parameters.contains(name)
                || function.option() == name
                || here.contains(name)
                || fields.contains(name)
                || (!function.is_public || function.parameters.contains("config")) && anywhere.contains(name);
            if !is_right {
                misnamed.push(format!("{}: `{}`: {}", path.display(), function.name, message.text));
            }
        }
    }
    (misnamed, count)
}

#[test]
fn a_panic_names_the_argument_as_the_signature_does() {
    let (misnamed, count) = misnamed(&sources());
    assert!(count > 60, "only {count} messages were found");
    assert!(misnamed.is_empty(), "{misnamed:#?}");
}

#[test]
fn knows_a_wrong_name_when_it_sees_one() {
    let source = |name: &str| {
        let text = format!(
            "pub fn with_rest(mut self, n: usize) -> Self {{\n    assert!(n > 0, \"`{name}` must be 1\");\n}}\n"
        );
        [(PathBuf::from("a.rs"), text)]
    };
    assert_eq!(misnamed(&source("n")).0, [""; 0]);
    assert_eq!(misnamed(&source("rest")).0, [""; 0]);
    assert_eq!(misnamed(&source("count")).0, ["a.rs: `with_rest`: `count` must be 1"]);
}

/// What the panic of `mistake` says.
fn refusal<R>(mistake: impl FnOnce() -> R) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(mistake()))).expect_err("it was accepted");
    payload.downcast_ref::<String>().cloned().unwrap_or_else(|| (*payload.downcast::<&str>().unwrap()).to_owned())
}

#[test]
fn sizes_that_are_allocated_at_once_have_a_bound() {
    let pipeline = Pipeline::new("huge");
    let call = |_: &CancelToken, n: &u32| streamz::ok(*n);
    let most = |name: &str, most: &str, size: usize| format!("`{name}` must be at most {most}, not {size}");
    for size in [65_537, usize::MAX] {
        assert_eq!(refusal(|| AsyncMapper::new(call).with_workers(size)), most("workers", "65,536", size));
        assert_eq!(refusal(|| FanOut::<u32>::new(size)), most("n", "65,536", size));
        let partition = || Partition::new(|n: &u32| *n).with_partitions(size);
        assert_eq!(refusal(partition), most("partitions", "65,536", size));
    }
    for size in [(1 << 24) + 1, usize::MAX] {
        let receiver = || Stream::from_iter(&pipeline, 0..3).into_receiver(size);
        assert_eq!(refusal(receiver), most("capacity", "16,777,216", size));
    }
}

#[test]
fn an_advance_beyond_the_clocks_range_names_its_argument() {
    assert_eq!(refusal(|| ManualClock::new().advance(Duration::MAX)), "`by` must not move the time beyond 584 years");
}
