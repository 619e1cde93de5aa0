//! Hashes all files of a directory in parallel, in the order of their names, and shows its progress.

use std::fs::File;
use std::hash::Hasher;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use streamz::prelude::*;

#[derive(Debug, PartialEq, Eq)]
struct Hashed {
    path: PathBuf,
    bytes: u64,
    hash: u64,
}

#[derive(Debug, Default)]
struct Outcome {
    hashed: Vec<Hashed>,
    /// The files that could not be read, and why.
    failed: Vec<(PathBuf, String)>,
}

fn hash(path: &Path) -> io::Result<Hashed> {
    let mut file = File::open(path)?;
    let (mut hasher, mut bytes, mut buffer) =
        (std::hash::DefaultHasher::new(), 0, vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Hashed { path: path.to_owned(), bytes, hash: hasher.finish() }),
            n => {
                hasher.write(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
}

/// `progress` is told how many files are done, every tenth of
/// a second and at the end.
fn hash_all(
    directory: &Path,
    progress: impl Fn(u64) + Clone + Send + 'static,
) -> io::Result<Outcome> {
    let mut paths = std::fs::read_dir(directory)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    let pipeline = Pipeline::new("hash");
    let done = |report: &Report| {
        report.stage("hash").map_or(0, |stage| stage.emitted() + stage.failed())
    };
    let (token, show) = (pipeline.token(), progress.clone());
    pipeline.every(Duration::from_millis(100), move || show(done(&token.report())));

    let results = Stream::from_iter(&pipeline, paths)
        .named("hash")
        .async_map(8, |_: &CancelToken, path: &PathBuf| hash(path))
        .into_iter();
    let mut outcome = Outcome::default();
    for result in results {
        match result {
            Ok(one) => outcome.hashed.push(one),
            Err(error) => {
                let path = error.take_item::<PathBuf>().unwrap_or_default();
                outcome.failed.push((path, format!("{error:#}")));
            }
        }
    }
    progress(done(&pipeline.join()));
    Ok(outcome)
}

#[test]
fn every_file_is_hashed_or_named_as_unreadable() {
    let directory = tempfile::tempdir().unwrap();
    for n in 0..50 {
        std::fs::write(
            directory.path().join(format!("{n:02}.txt")),
            vec![n; 3_000 * usize::from(n)],
        )
        .unwrap();
    }
    std::fs::create_dir(directory.path().join("99.directory")).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let Outcome { hashed, failed } =
        hash_all(directory.path(), move |files| _ = tell.send(files)).unwrap();

    let names =
        hashed.iter().map(|one| one.path.file_name().unwrap().to_str().unwrap().to_owned());
    assert!(names.eq((0..50).map(|n| format!("{n:02}.txt"))));
    assert!(hashed.iter().map(|one| one.bytes).eq((0..50).map(|n| 3_000 * n)));
    assert_eq!(hashed[7], hash(&hashed[7].path).unwrap());
    let [(path, reason)] = &failed[..] else { panic!("{failed:?}") };
    assert!(
        path.ends_with("99.directory") && reason.contains("directory"),
        "{path:?}: {reason}"
    );
    assert_eq!(told.into_iter().last(), Some(51));
}
