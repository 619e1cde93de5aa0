//! A pipeline from a configuration: its cheap steps share a thread, and its pools stand between them.

use streamz::prelude::*;
use streamz::{AsyncMapper, BoxStage, Filter, Mapper};

type Record = serde_json::Map<String, serde_json::Value>;

/// The pipeline as a list of processors. Errors name the step by its number and say what is wrong.
fn build(config: &str) -> Result<Vec<BoxProcessor<Record, Record>>, String> {
    let mut processors: Vec<BoxProcessor<Record, Record>> = Vec::new();
    let mut steps: Vec<BoxStage<Record, Record>> = Vec::new();
    for (n, line) in config.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            ["keep", field] => {
                let field = field.to_owned();
                let keep = Filter::new(move |record: &Record| record.contains_key(&field));
                steps.push(keep.with_name("keep").boxed_stage());
            }
            ["rename", from, to] => {
                let (from, to) = (from.to_owned(), to.to_owned());
                let rename = Mapper::new(move |mut record: Record| {
                    if let Some(value) = record.remove(&from) {
                        record.insert(to.clone(), value);
                    }
                    record
                });
                steps.push(rename.with_name("rename").boxed_stage());
            }
            ["digest", field, workers] => {
                let field = field.to_owned();
                let workers = workers
                    .parse()
                    .map_err(|error| format!("step {}: workers {workers:?}: {error}", n + 1))?;
                if !steps.is_empty() {
                    processors
                        .push(BoxStage::fused("steps", std::mem::take(&mut steps)).boxed());
                }
                let digest = AsyncMapper::new(move |_: &CancelToken, record: &Record| {
                    let mut record = record.clone();
                    let length = record.get(&field).map_or(0, |value| value.to_string().len());
                    record.insert("length".to_owned(), length.into());
                    streamz::ok(record)
                });
                processors.push(digest.with_name("digest").with_workers(workers).boxed());
            }
            _ => return Err(format!("step {}: {line:?} is not a step", n + 1)),
        }
    }
    if !steps.is_empty() {
        processors.push(BoxStage::fused("steps", steps).boxed());
    }
    Ok(processors)
}

#[test]
fn the_steps_of_a_configuration_share_threads() {
    let processors =
        build("keep id\nrename id key\ndigest text 2\nrename length size\nkeep size").unwrap();
    let pipeline = Pipeline::new("configured");
    let records = (0..100).map(|n| {
        let mut record = Record::new();
        record.insert(if n % 3 == 0 { "no" } else { "id" }.to_owned(), n.into());
        record
    });
    let records = processors
        .iter()
        .fold(Stream::from_iter(&pipeline, records), |stream, next| stream.through(next));
    let keys = records
        .map(|record| (record["key"].as_u64(), record["size"].as_u64()))
        .collect::<Vec<_>>()
        .unwrap();
    assert!(
        keys.iter().copied().eq((0..100).filter(|n| n % 3 != 0).map(|n| (Some(n), Some(0))))
    );

    let report = pipeline.join();
    let steps = |stage: &str| -> Vec<String> {
        report.stage(stage).unwrap().steps.iter().map(|step| step.name.to_string()).collect()
    };
    assert_eq!(steps("steps"), ["keep", "rename"]);
    assert_eq!(steps("steps-2"), ["rename", "keep"]);
    assert_eq!(report.stage("digest").unwrap().threads, 2);
}

#[test]
fn a_bad_step_is_named() {
    assert_eq!(
        build("keep id\n\nshuffle 3").err().as_deref(),
        Some("step 3: \"shuffle 3\" is not a step")
    );
    let error = build("digest text many").err().unwrap();
    assert!(error.contains("step 1: workers \"many\""), "{error}");
}
