//! Geographic partitions: each request is served, and its data stored, in its own region.

mod common;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use common::{Data, Page, bar};
use parking_lot::Mutex;
use rusqlite::Connection;
use streamz::prelude::*;
use streamz::{BoxError, PartitionStats};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Region and number: `us-west-12345`.
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub id: String,
    pub served_in: Region,
}

// [pattern]
/// The regions in which requests are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Region {
    UsWest,
    UsEast,
    Eu,
    Asia,
    /// All other regions, and ids without a region.
    Other,
}

impl Region {
    /// In the order of the partitions.
    pub const ALL: [Self; 5] = [Self::UsWest, Self::UsEast, Self::Eu, Self::Asia, Self::Other];

    /// The region at the beginning of an id.
    pub fn of(id: &str) -> Self {
        let mut parts = id.split('-');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("us"), Some("west"), Some(_)) => Self::UsWest,
            (Some("us"), Some("east"), Some(_)) => Self::UsEast,
            (Some("eu"), Some(_), _) => Self::Eu,
            (Some("asia"), Some(_), _) => Self::Asia,
            _ => Self::Other,
        }
    }
}

/// Serves each request in its region, with the processor that `server` makes for that region.
/// Returns a stream of responses per region.
pub fn distribute<P>(
    cancel: &CancelToken,
    requests: Stream<Request>,
    server: impl Fn(Region) -> P,
) -> (BTreeMap<Region, Stream<Response>>, PartitionStats)
where
    P: Processor<In = Request, Out = Response>,
{
    let partition = Partition::by_ref(|request: &Request| request.id.as_str())
        .with_partitions(Region::ALL.len())
        .with_partitioner(|id: &str, _| Region::of(id) as usize)
        .with_name("regions");
    let output = partition.process(cancel, requests);
    let regions = Region::ALL.into_iter().zip(output.partitions);
    (
        regions.map(|(region, stream)| (region, stream.through(&server(region)))).collect(),
        output.stats,
    )
}
// [/pattern]

/// A data centre: a database with the requests served there.
struct Centre {
    region: Region,
    database: Mutex<Connection>,
}

impl Centre {
    fn open(region: Region) -> Result<Self, BoxError> {
        let database = Connection::open_in_memory()?;
        database.execute_batch("CREATE TABLE requests (id TEXT PRIMARY KEY)")?;
        Ok(Self { region, database: Mutex::new(database) })
    }

    fn serve(&self, request: &Request) -> Result<Response, BoxError> {
        let database = self.database.lock();
        database.prepare_cached("INSERT INTO requests VALUES (?)")?.execute((&request.id,))?;
        Ok(Response { id: request.id.clone(), served_in: self.region })
    }

    fn stored(&self) -> Result<Vec<String>, BoxError> {
        let database = self.database.lock();
        let mut select = database.prepare("SELECT id FROM requests ORDER BY rowid")?;
        Ok(select.query_map((), |row| row.get(0))?.collect::<Result<_, _>>()?)
    }
}

fn main() -> ExitCode {
    common::run(
        "Geographic partitions: each request is served in its own region",
        around_the_world,
    )
}

fn around_the_world(page: &Page) -> Result<(), BoxError> {
    let mut data = Data::seeded(15);
    let places =
        ["us-west", "us-west", "us-east", "us-east", "us-east", "eu", "eu", "asia", "africa"];
    let mut ids: Vec<String> =
        (0..10_000).map(|n| format!("{}-{n}", data.pick(&places))).collect();
    ids.extend(["nonsense", "us", "us-north-1", ""].map(str::to_owned));
    data.shuffle(&mut ids);

    let centres = Region::ALL.map(Centre::open).into_iter().collect::<Result<Vec<_>, _>>()?;
    let centres: Vec<Arc<Centre>> = centres.into_iter().map(Arc::new).collect();
    let pipeline = Pipeline::new("world");
    let requests: Vec<Request> = ids.iter().map(|id| Request { id: id.clone() }).collect();
    let (regions, stats) =
        distribute(&pipeline, Stream::from_iter(&pipeline, requests), |region| {
            let centre = Arc::clone(&centres[region as usize]);
            let serve = AsyncMapper::new(move |_: &CancelToken, request: &Request| {
                centre.serve(request)
            });
            serve.with_workers(2).with_name(format!("{region:?}"))
        });
    // The stream of each region is read on a thread of the pipeline.
    let readers: Vec<_> = regions
        .into_iter()
        .map(|(region, responses)| {
            (region, responses.spawn(|responses| responses.collect::<Vec<_>>()))
        })
        .collect();
    let mut responses: Vec<(Region, Response)> = Vec::new();
    for (region, reader) in readers {
        responses.extend(reader.join()?.into_iter().map(|response| (region, response)));
    }
    let report = pipeline.join();

    let counts = stats.items_per_partition();
    page.say("");
    page.table(
        &["region", "requests", ""],
        Region::ALL.iter().zip(&counts).map(|(region, &count)| {
            [format!("{region:?}"), count.to_string(), bar(count as f64, ids.len() as f64, 60)]
        }),
    );
    page.say("");

    page.check_eq("every request was answered once", responses.len(), ids.len());
    page.check_eq("nothing failed", stats.failed(), 0);
    page.check(
        "each response comes from the region's own stream",
        responses.iter().all(|(of, it)| it.served_in == *of),
    );
    for centre in &centres {
        let of_region: Vec<&String> =
            ids.iter().filter(|id| Region::of(id) == centre.region).collect();
        let mut stored = centre.stored()?;
        stored.sort_unstable();
        let mut expected: Vec<String> = of_region.into_iter().cloned().collect();
        expected.sort_unstable();
        page.check(
            format_args!("the database of {:?} has its own and nothing else", centre.region),
            stored == expected,
        );
    }
    let of = |id: &str| responses.iter().find(|(_, it)| it.id == id).map(|(region, _)| *region);
    let strange = ["nonsense", "us", "us-north-1", ""].map(of);
    page.check_eq(
        "ids without a region belong to none, and not to the first",
        strange,
        [Some(Region::Other); 4],
    );
    page.check("the pipeline is complete", report.is_complete());
    Ok(())
}
