//! What is published: the archive of each crate has what a build, its tests and its documentation need, and little else.
//!
//! This looks at the lists of files. `.ci/package` builds and tests the archives themselves, without the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The published crates: folder, and how many kB their files may have in all.
const CRATES: &[(&str, u64)] =
    &[(".", 4_000), ("connectors/journal", 200), ("connectors/redis", 200), ("connectors/kafka", 200)];

struct Archive {
    folder: PathBuf,
    manifest: String,
    files: BTreeSet<String>,
}

impl Archive {
    fn of(folder: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).canonicalize().unwrap();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let name = manifest.split_once("\nname = \"").unwrap().1.split('"').next().unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["package", "--list", "--allow-dirty", "--package", name]).current_dir(&folder);
        let ran = cargo.output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let files = String::from_utf8(ran.stdout).unwrap().lines().map(|line| line.replace('\\', "/")).collect();
        Self { folder, manifest, files }
    }

    /// The files that its sources include, relative to its folder. A name that a macro puts together ends the look.
    fn included(&self) -> BTreeSet<String> {
        let mut included = BTreeSet::new();
        for file in self.files.iter().filter(|file| file.ends_with(".rs")) {
            let source = fs::read_to_string(self.folder.join(file)).unwrap();
            for call in source.split("include_str!(\"").skip(1) {
                let mut parts: Vec<&str> = file.split('/').collect();
                parts.pop();
                for part in call.split('"').next().unwrap().split('/') {
                    match part {
                        ".." => _ = parts.pop(),
                        _ => parts.push(part),
                    }
                }
                included.insert(parts.join("/"));
            }
        }
        included
    }

    fn field(&self, name: &str) -> Option<&str> {
        let package = self.manifest.split_once("[package]").unwrap().1.split("\n[").next().unwrap();
        Some(package.split_once(&format!("\n{name} = "))?.1.lines().next().unwrap())
    }
}

#[test]
fn archives_contain_all_included_files() {
    for (folder, _) in CRATES {
        let archive = Archive::of(folder);
        let included = archive.included();
        assert!(included.contains("README.md"), "{folder}: {included:?}");
        let missing: Vec<_> = included.difference(&archive.files).collect();
        assert!(missing.is_empty(), "{folder}: {missing:?}");
    }
    // The guides, whose names a macro puts together.
    let archive = Archive::of(".");
    for (folder, ending) in [("docs", "md"), ("docs/patterns", "md"), ("docs/pictures", "rustdoc")] {
        let entries = fs::read_dir(archive.folder.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        for path in entries.filter(|path| path.extension().is_some_and(|extension| extension == ending)) {
            let file = format!("{folder}/{}", path.file_name().unwrap().to_string_lossy());
            assert!(archive.files.contains(&file), "{file}");
        }
    }
}

#[test]
fn archives_have_nothing_that_users_do_not_need() {
    for (folder, max) in CRATES {
        let archive = Archive::of(folder);
        let is_needed = |file: &str| {
            let folder = file.split_once('/').map_or("", |(folder, _)| folder);
            ["", "src", "docs", "examples"].contains(&folder) && !file.ends_with(".svg") && !file.ends_with(".mmd")
        };
        let surplus: Vec<_> = archive.files.iter().filter(|file| !is_needed(file)).collect();
        assert!(surplus.is_empty(), "{folder}: {surplus:?}");
        // Cargo makes some of the files.
        let sizes = archive.files.iter().filter_map(|file| Some(fs::metadata(archive.folder.join(file)).ok()?.len()));
        let size = sizes.sum::<u64>() / 1000;
        assert!(size <= *max, "{folder}: {size} kB");
    }
}

#[test]
fn archives_have_licences_and_metadata() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (folder, _) in CRATES {
        let archive = Archive::of(folder);
        for licence in ["LICENSE-APACHE", "LICENSE-MIT"] {
            assert!(archive.files.contains(licence), "{folder}");
            let text = fs::read_to_string(archive.folder.join(licence)).unwrap();
            assert!(text == fs::read_to_string(root.join(licence)).unwrap(), "{folder}/{licence} differs");
        }
        assert_eq!(archive.field("license"), Some("\"MIT OR Apache-2.0\""), "{folder}");
        for field in ["description", "readme", "rust-version", "categories", "documentation"] {
            assert!(archive.field(field).is_some(), "{folder}: {field}");
        }
        // The limits of crates.io.
        let keywords = archive.field("keywords").unwrap();
        let keywords: Vec<&str> = keywords.split('"').skip(1).step_by(2).collect();
        assert!((1..=5).contains(&keywords.len()) && keywords.iter().all(|word| word.len() <= 20), "{keywords:?}");
    }
}

/// A connector is published after the library, and needs the version that it was tested with.
#[test]
fn connectors_need_the_present_version() {
    let version = Archive::of(".").field("version").unwrap().to_owned();
    for (folder, _) in &CRATES[1..] {
        let needs = format!("\nstreamz = {{ version = {version}, path = ");
        assert!(Archive::of(folder).manifest.contains(&needs), "{folder} does not have: {needs}");
    }
}

#[test]
fn every_example_has_a_name_of_its_own() {
    // Cargo puts them all into one folder.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("examples")];
    folders.extend(entries(&root.join("connectors")).map(|connector| connector.join("examples")));
    let mut names = BTreeMap::<_, Vec<_>>::new();
    for example in folders.iter().filter(|folder| folder.exists()).flat_map(|folder| entries(folder)) {
        let is_example = example.extension().is_some_and(|it| it == "rs") || example.join("main.rs").exists();
        if is_example {
            names.entry(example.file_stem().unwrap().to_owned()).or_default().push(example);
        }
    }
    for name in ["retry", "etl", "redis_orders"] {
        assert!(names.contains_key(OsStr::new(name)), "{name} was not found: {names:?}");
    }
    names.retain(|_, examples| examples.len() > 1);
    assert!(names.is_empty(), "{names:#?}");
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())
}
