//! Every link in the Markdown files of this repository leads somewhere: to a file that is there, to a heading that it has.
//!
//! Links to other sites are not followed. Links within rustdoc are checked by rustdoc.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A page without what is code.
struct Page {
    text: String,
    anchors: BTreeSet<String>,
    /// Reference definitions, by their label in lower case.
    references: BTreeMap<String, String>,
}

impl Page {
    fn new(source: &str) -> Self {
        let mut page = Self { text: String::new(), anchors: BTreeSet::new(), references: BTreeMap::new() };
        let mut fence = None;
        for line in source.lines() {
            let start = line.trim_start();
            let mark: String = start.chars().take_while(|&c| c == '`' || c == '~').collect();
            match &fence {
                None if mark.len() >= 3 => fence = Some(mark),
                None => page.prose(line),
                Some(open) if mark.starts_with(open.as_str()) && start.trim_end() == mark => fence = None,
                Some(_) => {}
            }
        }
        assert!(fence.is_none(), "a code block is not closed");
        page
    }

    fn prose(&mut self, line: &str) {
        let heading = line.trim_start_matches('#');
        let level = line.len() - heading.len();
        if (1..=6).contains(&level) && heading.starts_with(' ') {
            let slug = slug(heading.trim());
            let taken = self.anchors.iter().filter(|other| is_numbered(other, &slug)).count();
            self.anchors.insert(if taken == 0 { slug } else { format!("{slug}-{taken}") });
        }
        let line = without_code(line);
        if let Some((label, target)) = definition(&line) {
            self.references.insert(label.to_lowercase(), target.to_owned());
        } else {
            self.text.push_str(&line);
            self.text.push('\n');
        }
    }

    /// What its links lead to, and what is wrong with those that cannot.
    fn targets(&self) -> (Vec<String>, Vec<String>) {
        let (mut targets, mut wrong): (Vec<_>, _) = (self.references.values().cloned().collect(), Vec::new());
        let mut rest = self.text.as_str();
        while let Some(open) = rest.find('[') {
            rest = &rest[open + 1..];
            let Some(close) = rest.find(']') else { break };
            let label = &rest[..close];
            let after = &rest[close + 1..];
            if let Some(target) = after.strip_prefix('(') {
                let target = target.split(')').next().unwrap_or_default();
                targets.push(target.split_whitespace().next().unwrap_or_default().to_owned());
            } else {
                let label = match after.strip_prefix('[').and_then(|after| after.split_once(']')) {
                    Some((reference, _)) if !reference.is_empty() => reference,
                    _ => label,
                };
                let words: Vec<&str> = label.split_whitespace().collect();
                if !self.references.contains_key(&words.join(" ").to_lowercase()) {
                    wrong.push(format!("`[{label}]` is not defined"));
                }
            }
            // A label may have a link in it, so that is looked at as well.
        }
        (targets, wrong)
    }
}

/// What a heading is called in a link, by the rules of GitHub and rustdoc.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

fn is_numbered(anchor: &str, slug: &str) -> bool {
    let rest = anchor.strip_prefix(slug);
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('-').is_some_and(|n| n.parse::<u32>().is_ok()))
}

/// Code spans that begin and end on a line.
fn without_code(line: &str) -> String {
    let pieces: Vec<&str> = line.split('`').collect();
    if pieces.len().is_multiple_of(2) {
        return line.to_owned();
    }
    pieces.into_iter().step_by(2).collect::<Vec<_>>().join("code")
}

fn definition(line: &str) -> Option<(&str, &str)> {
    let (label, target) = line.strip_prefix('[')?.split_once("]: ")?;
    Some((label, target.split_whitespace().next()?))
}

pub(super) fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            pages(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// What is wrong with a link from `page`.
fn check(root: &Path, page: &Path, target: &str) -> Result<(), String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(());
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { page.to_owned() } else { page.parent().unwrap().join(path) };
    let file = file.canonicalize().map_err(|error| format!("`{target}`: {error}"))?;
    if !file.starts_with(root) {
        return Err(format!("`{target}` leads out of the repository"));
    }
    match anchor {
        Some(anchor) if file.extension().is_some_and(|extension| extension == "md") => {
            let anchors = Page::new(&fs::read_to_string(&file).unwrap()).anchors;
            if anchors.contains(anchor) { Ok(()) } else { Err(format!("`{target}`: no such heading in {anchors:?}")) }
        }
        _ => Ok(()),
    }
}

#[test]
fn every_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
    let mut files = Vec::new();
    pages(&root, &mut files);
    for expected in ["README.md", "CHANGELOG.md", "docs/design.md"] {
        assert!(files.contains(&root.join(expected)), "{expected} was not found");
    }
    let mut broken = Vec::new();
    for file in files {
        let (targets, mut wrong) = Page::new(&fs::read_to_string(&file).unwrap()).targets();
        wrong.extend(targets.iter().filter_map(|target| check(&root, &file, target).err()));
        let name = file.strip_prefix(&root).unwrap();
        broken.extend(wrong.into_iter().map(|what| format!("{}: {what}", name.display())));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Each guide is a part of the documentation, so that its code is run and its links lead to the others there, too.
#[test]
fn every_guide_is_in_rustdoc() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guides = fs::read_to_string(root.join("src/guides.rs")).unwrap();
    let packed: String = guides.split_whitespace().collect();
    for entry in fs::read_dir(root.join("docs")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        // The patterns have a module of their own, and their test looks at it. The index is for readers of the folder.
        if let Some(stem) = name.strip_suffix(".md").filter(|stem| !["patterns", "README"].contains(stem)) {
            let module = stem.replace('-', "_");
            let call = format!("guide!({module},\"{name}\"");
            assert!(packed.contains(&call), "{name} is not in src/guides.rs");
            assert!(
                guides.contains(&format!("crate::guides::{module}\"]")),
                "links to {name} do not resolve in rustdoc"
            );
        }
    }
}

#[test]
fn knows_a_broken_link_when_it_sees_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).canonicalize().unwrap();
    let page = root.join("docs/testing.md");
    check(&root, &page, "design.md#pools").unwrap();
    check(&root, &page, "#a-first-test").unwrap();
    check(&root, &page, "../README.md").unwrap();
    check(&root, &page, "https://example.org/nowhere").unwrap();
    for broken in ["no-such.md", "design.md#no-such", "#no-such", "design#pools", "/etc/passwd", "../.."] {
        check(&root, &page, broken).unwrap_err();
    }
    let source = "# One\n# One\n[a](x.md) `[b](y.md)` [c] [d][e]\n```\n[f](z.md)\n```\n[e]: w.md\n";
    let page = Page::new(source);
    assert_eq!(page.anchors.iter().collect::<Vec<_>>(), ["one", "one-1"]);
    assert_eq!(page.targets(), (vec!["w.md".to_owned(), "x.md".to_owned()], vec!["`[c]` is not defined".to_owned()]));
}
