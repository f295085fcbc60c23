//! Waiting for nodes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use afloat_watching::feed::{Pauses, events};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use kube::runtime::watcher;
use kube::{Api, Client};

use crate::error::Error;
use crate::layout::since_start;

/// Waits until all nodes of these names are Ready.
pub(crate) async fn wait(client: Client, mut missing: BTreeSet<String>, limit: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + limit;
    let api: Api<Node> = Api::all(client);
    // A stored node may still say Ready from an earlier run: only a heartbeat of this one counts.
    let started = whole_second(jiff::Timestamp::now(), since_start());
    let mut stream = std::pin::pin!(events(api, watcher::Config::default(), Pauses::Quick));
    while !missing.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let node = match tokio::time::timeout(left, stream.next()).await {
            Ok(Some(watcher::Event::Apply(node) | watcher::Event::InitApply(node))) => node,
            Ok(Some(_)) => continue,
            // The watch goes on for ever.
            Ok(None) | Err(_) => {
                return Err(Error::NotReady {
                    seconds: limit.as_secs(),
                    nodes: missing.into_iter().collect(),
                });
            }
        };
        let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
        if conditions.iter().any(|condition| is_ready(condition, started)) {
            missing.remove(node.metadata.name.as_deref().unwrap_or_default());
        }
    }
    Ok(())
}

fn is_ready(condition: &NodeCondition, started: i64) -> bool {
    let heartbeat = condition.last_heartbeat_time.as_ref();
    condition.type_ == "Ready"
        && condition.status == "True"
        && heartbeat.is_some_and(|time| time.0.as_second() >= started)
}

/// The second that a moment `ago` before `now` lies in: heartbeats are cut to whole seconds, too.
fn whole_second(now: jiff::Timestamp, ago: Duration) -> i64 {
    now.checked_sub(ago).map_or(0, jiff::Timestamp::as_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_right_after_the_start_counts() {
        let now: jiff::Timestamp = "2026-01-01T00:00:10.050Z".parse().unwrap();
        let heartbeat: jiff::Timestamp = "2026-01-01T00:00:09.500Z".parse().unwrap();
        let earlier_run: jiff::Timestamp = "2026-01-01T00:00:08.900Z".parse().unwrap();
        let started = whole_second(now, Duration::from_millis(900));
        assert!(heartbeat.as_second() >= started);
        assert!(earlier_run.as_second() < started);
    }
}
