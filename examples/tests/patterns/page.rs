//! The pages of the patterns show the code that is run.
//!
//! A block of code that follows a line `<!-- examples/name.rs -->` is the region between the lines `// [pattern]` and
//! `// [/pattern]` of that file. With `STREAMZ_UPDATE_DOCS=1` the test writes it there.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Those of the patterns.
fn pages() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("docs/patterns")).unwrap();
    let mut pages: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    pages
}

/// The marked region, without the indentation that all its lines have in common.
fn region(source: &str) -> Option<String> {
    let lines = source.lines().skip_while(|line| line.trim() != "// [pattern]").skip(1);
    let lines: Vec<&str> = lines.take_while(|line| line.trim() != "// [/pattern]").collect();
    let indentation = |line: &&str| line.len() - line.trim_start().len();
    let common = lines.iter().filter(|line| !line.is_empty()).map(indentation).min()?;
    Some(lines.iter().map(|line| format!("{}\n", line.get(common..).unwrap_or(""))).collect())
}

/// The page with the code as it is in the examples, and how many blocks it shows.
fn brought_up_to_date(page: &str, example: impl Fn(&str) -> String) -> (String, usize) {
    let (mut text, mut shown) = (String::new(), 0);
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        text.push_str(line);
        text.push('\n');
        let Some(name) =
            line.strip_prefix("<!-- examples/").and_then(|rest| rest.strip_suffix(" -->"))
        else {
            continue;
        };
        assert_eq!(lines.next(), Some("```rust,ignore"), "after {line}");
        assert!(lines.any(|line| line == "```"), "a block is not closed");
        text.push_str(&format!("```rust,ignore\n{}```\n", example(name)));
        shown += 1;
    }
    (text, shown)
}

#[test]
fn the_pages_show_the_code_of_the_examples() {
    let update = std::env::var_os("STREAMZ_UPDATE_DOCS").is_some();
    let example = |name: &str| {
        let source = fs::read_to_string(root().join("examples").join(name)).unwrap();
        region(&source).unwrap_or_else(|| {
            panic!("{name} has no lines between `// [pattern]` and `// [/pattern]`")
        })
    };
    for path in pages().into_iter().chain([root().join("docs/from-go-patterns.md")]) {
        let page = fs::read_to_string(&path).unwrap();
        let (expected, shown) = brought_up_to_date(&page, example);
        assert!(shown > 0, "{} shows no code", path.display());
        if update {
            fs::write(&path, expected).unwrap();
        } else {
            let hint =
                "STREAMZ_UPDATE_DOCS=1 cargo test -p streamz-examples --test patterns page";
            assert!(
                page == expected,
                "{} shows another code than the example: {hint}",
                path.display()
            );
        }
    }
}

#[test]
fn every_page_is_in_the_index_and_in_rustdoc() {
    let index = fs::read_to_string(root().join("docs/patterns.md")).unwrap();
    let module = fs::read_to_string(root().join("src/patterns.rs")).unwrap();
    for path in pages() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            index.contains(&format!("[`{name}`][{name}]")),
            "docs/patterns.md has no row for `{name}`"
        );
        let is_listed = module.lines().any(|line| line.trim() == name);
        assert!(
            is_listed && module.contains(&format!("[{name}]: self::{name}\"]")),
            "src/patterns.rs lacks `{name}`"
        );
    }
}

#[test]
fn a_region_loses_the_indentation_it_has_in_common() {
    let source =
        "fn a() {\n    // [pattern]\n    if b {\n\n        c();\n    }\n    // [/pattern]\n}\n";
    assert_eq!(region(source).unwrap(), "if b {\n\n    c();\n}\n");
    assert_eq!(region("fn a() {}\n"), None);
    let page = "Text.\n<!-- examples/a.rs -->\n```rust,ignore\nold\n```\nMore.\n";
    let (text, shown) = brought_up_to_date(page, |name| format!("new of {name}\n"));
    assert_eq!(
        text,
        "Text.\n<!-- examples/a.rs -->\n```rust,ignore\nnew of a.rs\n```\nMore.\n"
    );
    assert_eq!(shown, 1);
}
