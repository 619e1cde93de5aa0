//! What the compiler says about mistakes that are easily made: what to write instead.
//!
//! Each case is compiled by itself against the library that this program is linked with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

const CASES: &[(&str, &str, &[&str])] = &[
    (
        "an iterator's method",
        "let pipeline = Pipeline::new(\"p\"); let sum: u64 = Stream::from_iter(&pipeline, 0..9_u64).sum();",
        &["the iterator that `consume` gives you has it", "stream.consume(|items| items.sum::<u64>())?"],
    ),
    (
        "another of them",
        "let pipeline = Pipeline::new(\"p\"); Stream::from_iter(&pipeline, 0..9_u64).max();",
        &["the iterator that `consume` gives you has it"],
    ),
    (
        "a pool among the steps of a stage",
        "let pipeline = Pipeline::new(\"p\");
        Stream::from_iter(&pipeline, 0..9_u64).stage(\"steps\", |steps| steps.async_map(2, |_: &CancelToken, n: &u64| streamz::ok(*n)));",
        &["a step shares its thread with others, and a pool has threads of its own", "end the stage before the pool"],
    ),
    (
        "a harness around a processor that is no stage",
        "let same = ProcessorFn::new(\"same\", |_: &CancelToken, stream: Stream<u32>| stream);
        let harness = streamz::testing::Harness::new(&same);",
        &["is not a `Stage`: a processor with one thread", "a `Harness` takes a `Stage`"],
    ),
    (
        "a pool that is fused",
        "let pool = AsyncMapper::new(|_: &CancelToken, n: &u32| streamz::ok(*n)); let _ = pool.fuse(Mapper::new(|n: u32| n));",
        &["is not a `Stage`", "to put one behind another, use `then`"],
    ),
    (
        "an operator in place of a processor",
        "struct Echo;
        impl Operator for Echo {
            type In = u32;
            type Out = u32;
            fn item(&mut self, item: u32, out: &mut impl Emit<u32>) { out.emit(item); }
        }
        let pipeline = Pipeline::new(\"p\");
        let _ = Stream::from_iter(&pipeline, 0..3).through(&Echo);",
        &["`Echo` is not a processor", "use `Custom::new(name, || operator)`"],
    ),
    (
        "a mapper that cannot fail, in a retry",
        "let _ = Retry::new(Mapper::new(|n: u32| n + 1));",
        &["makes no call that could be tried again or guarded"],
    ),
    (
        "a closure that returns a plain value",
        "let (four, _) = Pipeline::run(\"four\", |_| 2 + 2);",
        &["the closure must return `()` or a `Result`", "wrap the value: `streamz::ok(value)`"],
    ),
    (
        "a closure that never returns",
        "Pipeline::new(\"p\").spawn(\"task\", |_| panic!(\"always\"));",
        &["the closure must return `()` or a `Result`, not `!`", "annotate a closure that never returns with `-> ()`"],
    ),
];

/// The compiled library: the newest file, because there may be some of other builds.
fn library() -> PathBuf {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let built = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let files = fs::read_dir(deps).unwrap().map(|entry| entry.unwrap().path());
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libstreamz-") && name.ends_with(".rlib")
    };
    files.filter(is_ours).max_by_key(|path| built(path)).expect("this program is linked with the library")
}

/// What the compiler says about these statements; `None` if they compile.
fn said(name: &str, statements: &str) -> Option<String> {
    let library = library();
    let folder = std::env::temp_dir().join(format!("streamz-diagnostics-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{}.rs", name.replace([' ', '\'', ','], "_")));
    fs::write(&file, format!("use streamz::prelude::*;\nfn main() {{\n{statements}\n}}\n")).unwrap();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition", "2024", "--emit", "metadata", "-A", "warnings", "--out-dir"]).arg(&folder);
    rustc.arg("-L").arg(format!("dependency={}", library.parent().unwrap().display()));
    rustc.arg("--extern").arg(format!("streamz={}", library.display())).arg(&file);
    let ran = rustc.output().expect("rustc");
    fs::remove_dir_all(&folder).unwrap();
    (!ran.status.success()).then(|| String::from_utf8_lossy(&ran.stderr).into_owned())
}

#[test]
fn a_mistake_is_answered_with_what_to_write_instead() {
    assert_eq!(said("none", "let pipeline = Pipeline::new(\"p\"); drop(pipeline);"), None);
    for (name, statements, expected) in CASES {
        let said = said(name, statements).unwrap_or_else(|| panic!("{name} compiles"));
        // Lines of a message are broken and indented.
        let words = |text: &str| text.split_whitespace().filter(|word| *word != "|").collect::<Vec<_>>().join(" ");
        for part in *expected {
            assert!(words(&said).contains(&words(part)), "{name}: no `{part}` in\n{said}");
        }
    }
}
