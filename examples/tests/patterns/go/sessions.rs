use std::collections::HashMap;

use streamz::{CancelToken, Partition, Processor, Scan, Stream};

use super::pipeline;

#[derive(Debug, Clone)]
struct Activity {
    session_id: u32,
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq)]
struct SessionUpdate {
    session_id: u32,
    activities: u32,
    is_complete: bool,
}

#[derive(Debug, Default)]
struct SessionState {
    activities: u32,
    is_complete: bool,
}

impl SessionState {
    fn process_activity(&mut self, activity: &Activity) -> SessionUpdate {
        self.activities += 1;
        self.is_complete = activity.action == "logout";
        SessionUpdate {
            session_id: activity.session_id,
            activities: self.activities,
            is_complete: self.is_complete,
        }
    }
}

// [pattern]
fn build_session_pipeline(
    cancel: &CancelToken,
    activities: Stream<Activity>,
) -> Stream<SessionUpdate> {
    let partitioner = Partition::new(|activity: &Activity| activity.session_id)
        .with_partitions(20)
        .with_name("session-partitioner");

    // Each partition has the states of its own sessions, and its own thread.
    let follow = |_partition| {
        Scan::new(HashMap::<u32, SessionState>::new, |sessions, activity: Activity| {
            let state = sessions.entry(activity.session_id).or_default();
            let update = state.process_activity(&activity);
            if state.is_complete {
                sessions.remove(&activity.session_id);
            }
            update
        })
    };

    partitioner.each(follow).process(cancel, activities)
}
// [/pattern]

#[test]
fn each_activity_gives_an_update_and_a_logout_ends_the_session() {
    let (_clock, pipeline) = pipeline();
    let actions = ["login", "view", "logout", "login"];
    let activities = actions
        .iter()
        .flat_map(|action| (0..30).map(move |session_id| Activity { session_id, action }));
    let activities: Vec<_> = activities.collect();
    let updates = build_session_pipeline(&pipeline, Stream::from_iter(&pipeline, activities));
    let mut of_session: HashMap<u32, Vec<(u32, bool)>> = HashMap::new();
    for update in updates {
        let update = update.unwrap();
        of_session
            .entry(update.session_id)
            .or_default()
            .push((update.activities, update.is_complete));
    }
    assert_eq!(of_session.len(), 30);
    for updates in of_session.values() {
        assert_eq!(updates[..], [(1, false), (2, false), (3, true), (1, false)]);
    }
}
