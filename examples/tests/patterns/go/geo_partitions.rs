use std::collections::BTreeMap;

use streamz::testing::Recorder;
use streamz::{BoxProcessor, CancelToken, Mapper, Partition, Processor, Stream};

use super::pipeline;

#[derive(Debug, Clone)]
struct Request {
    id: String,
}

#[derive(Debug)]
struct Response {
    id: String,
    served_in: &'static str,
}

fn create_processor(served_in: &'static str) -> BoxProcessor<Request, Response> {
    Mapper::new(move |request: Request| Response { id: request.id, served_in }).boxed()
}

// [pattern]
/// The region at the beginning of an id, such as `us-west-12345`.
fn geo_partitioner(key: &str, _partitions: usize) -> usize {
    let mut parts = key.split('-');
    match (parts.next(), parts.next()) {
        (_, None) => 0,
        (Some("us"), Some("west")) => 0,
        (Some("us"), _) => 1,
        (Some("eu"), _) => 2,
        (Some("asia"), _) => 3,
        _ => 4,
    }
}

fn build_geo_distributed_pipeline(
    cancel: &CancelToken,
    requests: Stream<Request>,
) -> BTreeMap<&'static str, Stream<Response>> {
    let regions = ["us-west", "us-east", "eu", "asia", "other"];
    let region_processors = regions.map(create_processor);

    let partitioner = Partition::by_ref(|request: &Request| request.id.as_str())
        .with_partitions(5)
        .with_partitioner(geo_partitioner)
        .with_name("geo-partitioner");
    let output = partitioner.process(cancel, requests);

    let served = output.partitions.into_iter().zip(region_processors);
    let served = served.map(|(partition, processor)| processor.process(cancel, partition));
    regions.into_iter().zip(served).collect()
}
// [/pattern]

#[test]
fn each_region_serves_its_own_requests() {
    let (clock, pipeline) = pipeline();
    let ids = ["us-west-1", "us-east-2", "eu-central-3", "asia-4", "africa-5", "nowhere"];
    let requests = Stream::from_iter(&pipeline, ids.map(|id| Request { id: id.to_owned() }));
    let recorders: Vec<_> = build_geo_distributed_pipeline(&pipeline, requests)
        .into_iter()
        .map(|(region, responses)| (region, Recorder::new(responses)))
        .collect();
    clock.settle();
    let mut served = BTreeMap::new();
    for (region, recorder) in recorders {
        for (_, response) in recorder.timed_items() {
            assert_eq!(response.served_in, region);
            served.insert(response.id, region);
        }
    }
    let served: Vec<_> = ids.iter().map(|id| served[*id]).collect();
    assert_eq!(served, ["us-west", "us-east", "eu", "asia", "other", "us-west"]);
}
