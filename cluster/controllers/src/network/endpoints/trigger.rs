//! When the change happened that made Endpoints change: programs measure by it how long news of pods travels. Source: the annotation
//! `endpoints.kubernetes.io/last-change-trigger-time` and Kubernetes' `TriggerTimeTracker`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::objects::Key;

/// What each Service's Endpoints were last decided on.
#[derive(Default)]
pub(super) struct Triggers(Mutex<HashMap<Key, Decided>>);

#[derive(Clone, Debug, Default)]
struct Decided {
    service: Option<Timestamp>,
    /// By name of a pod: when its readiness last changed.
    pods: BTreeMap<String, Timestamp>,
}

impl Triggers {
    /// The earliest of the changes since this Service was looked at last; at the first look, when the Service was created.
    pub(super) fn update<'a>(
        &self,
        key: &Key,
        created: Option<Timestamp>,
        pods: impl Iterator<Item = (&'a str, Option<Timestamp>)>,
    ) -> Option<Timestamp> {
        let now = Decided {
            service: created,
            pods: pods.filter_map(|(name, at)| Some((name.to_owned(), at?))).collect(),
        };
        let before = self.lock().insert(key.clone(), now.clone());
        let Some(before) = before else { return created };
        let newer = |(name, at): (&String, &Timestamp)| before.pods.get(name).is_none_or(|old| at > old).then_some(*at);
        let service = created.filter(|at| before.service.is_none_or(|old| *at > old));
        now.pods.iter().filter_map(newer).chain(service).min()
    }

    /// A Service is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Decided>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_change_since_the_last_look_counts() {
        let at = |second: i64| Timestamp::from_second(second).ok();
        let triggers = Triggers::default();
        let key = Key::new("n", "web");
        let look = |pods: &[(&'static str, i64)]| {
            let pods: Vec<_> = pods.iter().map(|(name, second)| (*name, at(*second))).collect();
            triggers.update(&key, at(1), pods.into_iter())
        };
        assert_eq!(look(&[("a", 5)]), at(1), "a new Service");
        assert_eq!(look(&[("a", 5)]), None, "nothing has changed");
        assert_eq!(look(&[("a", 9), ("b", 7), ("c", 8)]), at(7));
        assert_eq!(look(&[("a", 9)]), None, "a pod that goes has no time");
        triggers.forget(&key);
        assert_eq!(look(&[("a", 9)]), at(1));
    }
}
