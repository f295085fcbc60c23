//! What is told of the containers of a node: by what those that were restarted not long ago were started. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::runtime::{ContainerState, NodeContainer};

/// How long it is told what a container was started by: somebody waits for it who has just changed its pod.
const RECENT: Duration = Duration::from_secs(60);

/// See [`afloat_api::TrafficStatus::running`] and [`afloat_api::TrafficStatus::hashes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) references: BTreeMap<String, String>,
    pub(crate) hashes: BTreeMap<String, u64>,
}

/// Of containers that run, were started not long ago and had one before them. Of one whose reference the runtime keeps the hash says
/// nothing more.
pub(crate) fn running(containers: &[NodeContainer], now: Timestamp) -> Running {
    let mut told = Running::default();
    let recent = |container: &&NodeContainer| {
        let started = container.started_at.unwrap_or(container.created_at);
        let age = Duration::try_from(now.duration_since(started)).unwrap_or_default();
        container.restart_count > 0 && container.state == ContainerState::Running && age < RECENT
    };
    for container in containers.iter().filter(recent) {
        match (&container.reference, container.hash) {
            (Some(reference), _) => {
                told.references.insert(container.id.clone(), reference.clone());
            }
            (None, Some(hash)) => {
                told.hashes.insert(container.id.clone(), hash);
            }
            (None, None) => {}
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::container;

    #[test]
    fn restarts_of_the_last_minute_are_told() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let started = |id: &str, age: i64, restarts: u32| {
            let at = Timestamp::from_second(1_000_000 - age).unwrap();
            let mut container = container(id, "u", "app", at);
            container.restart_count = restarts;
            container.reference = Some("web:v1".to_owned());
            container
        };
        let mut by_hash = started("hash", 5, 2);
        (by_hash.reference, by_hash.hash) = (None, Some(7));
        let mut unknown = started("unknown", 5, 2);
        unknown.reference = None;
        let mut ended = started("ended", 5, 2);
        ended.state = ContainerState::Exited { code: Some(1) };
        let mut early = started("early", 5, 2);
        early.started_at = None;
        let all = [
            started("first", 5, 0),
            started("again", 59, 1),
            started("old", 60, 1),
            started("ahead", -5, 1),
            by_hash,
            unknown,
            ended,
            early,
        ];
        let told = running(&all, now);
        assert_eq!(
            told.references.keys().collect::<Vec<_>>(),
            ["fake://again", "fake://ahead", "fake://early"]
        );
        assert_eq!(told.references["fake://again"], "web:v1");
        assert_eq!(told.hashes, BTreeMap::from([("fake://hash".to_owned(), 7)]));
    }
}
