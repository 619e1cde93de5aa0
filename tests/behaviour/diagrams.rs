//! The diagrams of the documentation fit their sources.
//!
//! Rustdoc does not render Mermaid, and cannot show a file of the package. So each diagram is drawn beforehand:
//!
//! - `docs/pictures/NAME.mmd` is what to edit;
//! - `NAME.svg` is what the pages in `docs/` show on GitHub;
//! - `NAME.rustdoc` defines the link `[picture]` as the same SVG in a data URL, for rustdoc. A page is included behind it, and
//!   of two definitions of a link the first one counts.
//!
//! With `STREAMZ_UPDATE_DOCS=1` the test draws those that do not fit, which needs `mmdc`:
//!
//! ```sh
//! npm install -g @mermaid-js/mermaid-cli
//! STREAMZ_UPDATE_DOCS=1 cargo test --test behaviour diagrams
//! ```

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const HINT: &str = "STREAMZ_UPDATE_DOCS=1 cargo test --test behaviour diagrams";

/// Text that is text in every viewer, and little room between the nodes.
const LOOK: &str = r##"{
    "theme": "neutral", "htmlLabels": false, "fontFamily": "Helvetica, Arial, sans-serif",
    "flowchart": {"htmlLabels": false, "rankSpacing": 30, "nodeSpacing": 30, "padding": 10}
}"##;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn folder() -> PathBuf {
    root().join("docs/pictures")
}

/// The diagrams, without the ends of their file names.
fn diagrams() -> BTreeSet<PathBuf> {
    let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.is_file() && file.file_name() != Some(OsStr::new("README.md")));
    files.map(|file| file.with_extension("")).collect()
}

/// FNV-1a.
fn fingerprint(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// What the SVG carries to tell what it was drawn from.
fn mark(source: &str) -> String {
    format!("<svg data-source=\"{:016x}\" ", fingerprint(source))
}

/// A definition of the link `[picture]` that holds the whole picture.
fn definition(svg: &str) -> String {
    let mut url = String::new();
    for c in svg.trim_end().chars() {
        match c {
            '%' | '#' | '<' | '>' | '&' | '"' | '\\' | '\n' => url.push_str(&format!("%{:02X}", c as u32)),
            _ => url.push(c),
        }
    }
    format!("[picture]: <data:image/svg+xml,{url}>\n")
}

fn draw(diagram: &Path, source: &str) {
    let (look, browser) = (diagram.with_extension("look.json"), diagram.with_extension("browser.json"));
    fs::write(&look, LOOK).unwrap();
    // So that it may run as root in a container.
    fs::write(&browser, r#"{"args": ["--no-sandbox"]}"#).unwrap();
    let (from, to) = (diagram.with_extension("mmd"), diagram.with_extension("svg"));
    let mut mmdc = Command::new("mmdc");
    let options = [("-c", &look), ("-p", &browser), ("-i", &from), ("-o", &to)];
    options.into_iter().for_each(|(option, file)| _ = mmdc.arg(option).arg(file));
    let status = mmdc.arg("-q").status().expect("mmdc, of npm's @mermaid-js/mermaid-cli, is installed");
    [look, browser].into_iter().for_each(|file| fs::remove_file(file).unwrap());
    assert!(status.success(), "{}", diagram.display());
    fs::write(&to, slimmed(&fs::read_to_string(&to).unwrap()).replacen("<svg ", &mark(source), 1) + "\n").unwrap();
}

/// Without what has no effect here, and with its size.
fn slimmed(svg: &str) -> String {
    let mut slim = svg.to_owned();
    // What begins so, up to its end, if it is in the way.
    let mut remove = |begin: &str, end: &str, is_useless: &dyn Fn(&str) -> bool| {
        let mut from = 0;
        while let Some(at) = slim[from..].find(begin).map(|at| from + at) {
            let Some(length) = slim[at + begin.len()..].find(end) else { break };
            let length = begin.len() + length + end.len();
            if is_useless(&slim[at..at + length]) {
                slim.replace_range(at..at + length, "");
            } else {
                from = at + length;
            }
        }
    };
    for attribute in ["data-edge", "data-et", "data-id", "data-points", "data-look", "aria-roledescription"] {
        remove(&format!(" {attribute}=\""), "\"", &|_| true);
    }
    // Arrows that it does not have.
    remove("<marker id=\"", "</marker>", &|marker| {
        !svg.contains(&format!("url(#{})", marker.split('"').nth(1).unwrap()))
    });
    for (begin, end) in [("<defs><filter", "</defs>"), ("<linearGradient", "</linearGradient>"), ("@keyframes", ";}}")]
    {
        remove(begin, end, &|_| true);
    }
    // Rules for other looks, for HTML and for animations.
    let useless =
        ["[data-look", "edge-animation", "icon{", "icon path", "error-", "katex", "Tooltip", " p{", "span{", ":root"];
    remove("#my-svg", "}", &|rule| !rule.contains("label text") && useless.iter().any(|word| rule.contains(word)));
    // Each word has an element of its own.
    let word = " font-style=\"normal\" class=\"text-inner-tspan\" font-weight=\"normal\"";
    let slim = slim.replace(word, "").replace("</tspan><tspan>", "").replace(" style=\"\"", "").replace("<rect/>", "");

    let view = slim.split_once("viewBox=\"").unwrap().1.split_once('"').unwrap().0;
    let [_, _, width, height] = view.split(' ').collect::<Vec<_>>()[..] else { panic!("viewBox of {view}") };
    let size = [width, height].map(|length| length.parse::<f64>().unwrap().ceil());
    slim.replacen("width=\"100%\"", &format!("width=\"{}\" height=\"{}\"", size[0], size[1]), 1)
}

#[test]
fn every_diagram_is_drawn_from_its_source() {
    let update = std::env::var_os("STREAMZ_UPDATE_DOCS").is_some();
    let diagrams = diagrams();
    assert!(diagrams.len() > 20, "{diagrams:?}");
    for diagram in diagrams {
        let source = fs::read_to_string(diagram.with_extension("mmd")).unwrap();
        let svg = || fs::read_to_string(diagram.with_extension("svg")).unwrap_or_default();
        let written = || fs::read_to_string(diagram.with_extension("rustdoc")).unwrap_or_default();
        if update && !svg().starts_with(&mark(&source)) {
            draw(&diagram, &source);
        }
        assert!(svg().starts_with(&mark(&source)), "{} is drawn from another source: {HINT}", diagram.display());
        if update && written() != definition(&svg()) {
            fs::write(diagram.with_extension("rustdoc"), definition(&svg())).unwrap();
        }
        assert!(written() == definition(&svg()), "{} differs for rustdoc: {HINT}", diagram.display());
    }
}

#[test]
fn the_readme_shows_the_diagram_of_the_crate_page() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let (_, rest) = readme.split_once("```mermaid\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    assert_eq!(shown, fs::read_to_string(folder().join("overview.mmd")).unwrap());
}

/// Rustdoc would show it as text. GitHub and crates.io render it in the README, which rustdoc does not show.
#[test]
fn no_page_of_rustdoc_holds_mermaid() {
    for folder in ["src", "docs"] {
        let mut folders = vec![root().join(folder)];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "md" || extension == "rs") {
                    assert!(!fs::read_to_string(&path).unwrap().contains("```mermaid"), "{}", path.display());
                }
            }
        }
    }
}

#[test]
fn a_picture_for_rustdoc_ends_where_it_should() {
    let svg = "<svg a=\"100%\">\n#1 &lt; \\ é</svg>\n";
    let encoded = "%3Csvg a=%22100%25%22%3E%0A%231 %26lt; %5C é%3C/svg%3E";
    assert_eq!(definition(svg), format!("[picture]: <data:image/svg+xml,{encoded}>\n"));
}
