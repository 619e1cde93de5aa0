//! Names: what is built next has the name that it was given, and nothing else has it.

use std::sync::Arc;

use streamz::{Pipeline, Stream};

use super::List;
use super::ending::as_input;
use crate::common::faults::Faults;
use crate::rig::{Rig, Time, items};
use crate::subject::{Site, Subject};

pub fn add<In: Send + 'static, Out: Send + 'static>(list: &mut List<In, Out>) {
    list.add("named by the stream", |subject| {
        named(subject, |_, input, subject| input.named("given").through(&subject.processor(&QUIET)));
    });
    list.add("named by the token", |subject| {
        named(subject, |pipeline, input, subject| subject.processor(&QUIET).process(&pipeline.named("given"), input));
    });
}

const QUIET: Site = Site { faults: Faults::None, asleep: false };

type Build<In, Out> = fn(&Pipeline, Stream<In>, &Subject<In, Out>) -> Stream<Out>;

fn named<In: Send + 'static, Out: Send + 'static>(subject: &Arc<Subject<In, Out>>, build: Build<In, Out>) {
    const COUNT: u64 = 20;
    let rig = Rig::new(Time::System, 64);
    let (sender, input) = Stream::channel(&rig.pipeline.named("input"), 64);
    let mut output = rig.output(subject, build(&rig.pipeline, input, subject));
    let report = rig.pipeline.report();
    let readers = report.stages.iter().filter(|stage| stage.inputs.iter().any(|input| &*input.stage == "input"));
    assert_eq!(readers.map(|stage| &*stage.name).collect::<Vec<_>>(), ["given"], "{report}");
    assert!(report.stages.iter().all(|stage| !stage.name.starts_with("given-")), "{report}");
    rig.put(subject, &sender, items(COUNT));
    drop(sender);
    subject.compare(&as_input(&items(COUNT)), Faults::None, output.rest());
    drop(output);
    rig.close();
}
