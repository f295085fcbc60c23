//! Since when a container has been seen ready, where that alone tells something: its postStart hook may fail late, and no status says
//! whether it is done ([`HOLD`](super::HOLD)).

use jiff::Timestamp;

use crate::pod::object::{ContainerStatus, Pod, Sight};

impl Pod {
    /// Notes that what its status says was first seen at `now`. Who has seen the pod before gives that to [`Pod::share`] then.
    pub fn look(&mut self, now: Timestamp) {
        let containers = &self.spec.containers;
        for status in &mut self.status.container_statuses {
            let hooked = |status: &ContainerStatus| {
                let mut all = containers.iter();
                all.any(|container| container.post_start && container.name == status.name)
            };
            status.seen = (status.steady() && hooked(status)).then_some(Sight {
                since: now,
                replaced: false,
            });
        }
    }

    /// What it was before: a container that is as it was has been seen as long.
    pub(super) fn remember(&mut self, before: &Self) {
        for status in &mut self.status.container_statuses {
            let Some(seen) = &mut status.seen else { continue };
            let Some(old) = before.container_status(&status.name) else {
                continue;
            };
            match old.seen.filter(|_| old.container_id == status.container_id) {
                Some(first) => *seen = first,
                None => seen.replaced = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use afloat_words::texts::Pool;
    use serde_json::json;

    use super::*;

    fn pod(container: &str, ready: bool) -> Pod {
        let status =
            |name: &str| json!({"name": name, "ready": ready, "containerID": container, "state": {"running": {}}});
        serde_json::from_value(json!({
            "spec": {"containers": [{"name": "app", "lifecycle": {"postStart": {}}}, {"name": "log"}]},
            "status": {"containerStatuses": [status("app"), status("log")]},
        }))
        .unwrap()
    }

    /// When the first container was seen after looks at one of these containers each, which is ready or not, a second apart; and whether it was seen to become so.
    fn seen(looks: &[(&str, bool)]) -> Option<(i64, bool)> {
        let mut before = Pod::default();
        for (second, (container, ready)) in (0..).zip(looks) {
            let mut now = pod(container, *ready);
            now.look(Timestamp::from_second(second).unwrap());
            now.share(Some(&before), &mut Pool::default());
            assert_eq!(now.status.container_statuses[1].seen, None, "it has no hook");
            before = now;
        }
        before.status.container_statuses[0]
            .seen
            .map(|seen| (seen.since.as_second(), seen.replaced))
    }

    #[test]
    fn a_container_is_seen_from_the_first_look_at_it() {
        assert_eq!(seen(&[("a", true), ("a", true), ("a", true)]), Some((0, false)));
        assert_eq!(seen(&[("a", true), ("b", true), ("b", true)]), Some((1, true)));
        assert_eq!(seen(&[("a", true), ("a", false), ("a", true)]), Some((2, true)));
        assert_eq!(seen(&[("a", true), ("a", false)]), None);
    }
}
