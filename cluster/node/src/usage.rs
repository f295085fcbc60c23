//! `/stats/summary`: what the node's containers use, as the kubelet tells metrics-server.
//!
//! CPU is a rate: it needs two looks. They are taken when somebody asks and not before, and then serve for a while, so that a
//! node that nobody looks at pays nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use afloat_runtime::{Container, ContainerState, Usage};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::clock::since;
use crate::pod::spec;

/// A look is good for so long; metrics-server looks every 15 s.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// An older one says nothing about now.
const TOO_OLD: Duration = Duration::from_secs(60);
/// Between the first look and the second, where there is no older one.
pub(crate) const FIRST_WINDOW: Duration = Duration::from_secs(1);

/// One look at all containers.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) at: Timestamp,
    pub(crate) used: BTreeMap<String, Usage>,
}

/// The last two looks.
pub(crate) type Looks = tokio::sync::Mutex<Option<(Look, Look)>>;

/// What is to be done before an answer can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// The last two will do.
    Nothing,
    /// One more, to compare with the last.
    One,
    /// Two, a moment apart.
    Two,
}

pub(crate) fn need(last: Option<Timestamp>, now: Timestamp) -> Need {
    match last.map(|last| since(now, last)) {
        Some(age) if age < GOOD_FOR => Need::Nothing,
        Some(age) if age < TOO_OLD => Need::One,
        _ => Need::Two,
    }
}

/// Figures of one or more containers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Figures {
    nano_cores: u64,
    cpu_ns: u64,
    memory_bytes: u64,
}

impl Figures {
    fn add(self, other: Self) -> Self {
        Self {
            nano_cores: self.nano_cores + other.nano_cores,
            cpu_ns: self.cpu_ns + other.cpu_ns,
            memory_bytes: self.memory_bytes + other.memory_bytes,
        }
    }

    fn told(self, at: Timestamp) -> Value {
        json!({
            "cpu": {"time": at, "usageNanoCores": self.nano_cores, "usageCoreNanoSeconds": self.cpu_ns},
            "memory": {"time": at, "usageBytes": self.memory_bytes, "workingSetBytes": self.memory_bytes},
        })
    }
}

/// Everything, with the sum of all pods for the node. Pure.
pub(crate) fn summary<'a>(
    before: &Look,
    now: &Look,
    pods: impl Iterator<Item = &'a Pod>,
    containers: &[Container],
) -> (Vec<Value>, Figures, Look, Duration) {
    let mut told = vec![];
    let mut all = Figures::default();
    for pod in pods {
        let mut sum = Figures::default();
        let mut entries = vec![];
        let own = containers
            .iter()
            .filter(|c| c.pod_uid == spec::uid(pod) && c.state == ContainerState::Running);
        for container in own {
            let Some(figures) = figures(before, now, container) else {
                continue;
            };
            sum = sum.add(figures);
            let mut entry = figures.told(now.at);
            entry["name"] = json!(container.name);
            entry["startTime"] = json!(container.started_at);
            entries.push(entry);
        }
        all = all.add(sum);
        let mut entry = sum.told(now.at);
        entry["podRef"] = json!({"name": spec::name(pod), "namespace": spec::namespace(pod), "uid": spec::uid(pod)});
        entry["startTime"] = json!(pod.status.as_ref().and_then(|status| status.start_time.as_ref()));
        entry["containers"] = entries.into();
        told.push(entry);
    }
    (told, all, now.clone(), since(now.at, before.at))
}

/// None: nothing was seen of it.
fn figures(before: &Look, now: &Look, container: &Container) -> Option<Figures> {
    let used = now.used.get(&container.id)?;
    // What was started between the two has used nothing before.
    let (from, cpu_ns) = match before.used.get(&container.id) {
        Some(earlier) => (before.at, earlier.cpu_ns),
        None => (container.started_at?, 0),
    };
    let window_ns = since(now.at, from).as_nanos().max(1);
    let nano_cores = u128::from(used.cpu_ns.saturating_sub(cpu_ns)) * 1_000_000_000 / window_ns;
    Some(Figures {
        nano_cores: u64::try_from(nano_cores).unwrap_or(u64::MAX),
        cpu_ns: used.cpu_ns,
        memory_bytes: used.memory_bytes,
    })
}

/// `windowSeconds` is our own: the kubelet's clients compute it from two answers.
pub(crate) fn finish(
    (pods, all, now, window): (Vec<Value>, Figures, Look, Duration),
    node: &str,
    memory_bytes: u64,
) -> Value {
    let mut told = all.told(now.at);
    told["nodeName"] = json!(node);
    told["memory"]["availableBytes"] = json!(memory_bytes.saturating_sub(all.memory_bytes));
    json!({"node": told, "pods": pods, "windowSeconds": window.as_secs_f64()})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn look(seconds: i64, used: &[(&str, u64, u64)]) -> Look {
        let usage = |(id, cpu_ms, memory_bytes): &(&str, u64, u64)| {
            let usage = Usage {
                cpu_ns: cpu_ms * 1_000_000,
                memory_bytes: *memory_bytes,
            };
            ((*id).to_owned(), usage)
        };
        Look {
            at: at(seconds),
            used: used.iter().map(usage).collect(),
        }
    }

    fn container(id: &str, started: i64) -> Container {
        Container {
            id: id.into(),
            pod_uid: "u".into(),
            name: format!("name-of-{id}"),
            attempt: 0,
            image_id: String::new(),
            state: ContainerState::Running,
            created_at: at(started),
            started_at: Some(at(started)),
            labels: BTreeMap::new(),
            log_path: "/log".into(),
        }
    }

    #[test]
    fn looks_are_taken_when_they_are_needed() {
        assert_eq!(need(None, at(0)), Need::Two);
        assert_eq!(need(Some(at(0)), at(9)), Need::Nothing);
        assert_eq!(need(Some(at(0)), at(10)), Need::One);
        assert_eq!(need(Some(at(0)), at(60)), Need::Two);
    }

    #[test]
    fn rates_are_of_the_time_between() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "d", "uid": "u"}})).unwrap();
        let before = look(0, &[("old", 5_000, 1)]);
        let now = look(10, &[("old", 10_000, 100), ("new", 1_000, 50)]);
        let containers = [container("old", -100), container("new", 8), container("unknown", 0)];
        let told = summary(&before, &now, std::iter::once(&pod), &containers);
        let told = finish(told, "node-1", 1000);
        let entries = told["pods"][0]["containers"].as_array().unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0]["cpu"]["usageNanoCores"], 500_000_000);
        assert_eq!(entries[1]["cpu"]["usageNanoCores"], 500_000_000);
        assert_eq!(told["pods"][0]["cpu"]["usageNanoCores"], 1_000_000_000);
        assert_eq!(told["pods"][0]["podRef"]["name"], "p");
        assert_eq!(told["node"]["memory"]["workingSetBytes"], 150);
        assert_eq!(told["node"]["memory"]["availableBytes"], 850);
        assert_eq!(told["windowSeconds"], 10.0);
    }
}
