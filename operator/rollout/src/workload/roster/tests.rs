//! A roster that was told of each change is equal to one that is made anew, and says of each pod what the pod says.

use afloat_api::names;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::json;

use super::*;
use crate::pod::label::same_revision;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides).unwrap()
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64)]
    }
}

const TIMES: [&str; 4] = [
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:05Z",
    "2026-01-01T00:00:08Z",
    "2026-01-01T00:00:30Z",
];

fn matcher(app: &str) -> Matcher {
    let selector = LabelSelector {
        match_labels: Some([("app".to_owned(), app.to_owned())].into()),
        ..LabelSelector::default()
    };
    Matcher::new(&selector)
}

/// Any pod: ours or not, on any leg of its way.
fn pod(dice: &mut Dice, name: &str) -> Arc<Pod> {
    let owner = dice.one(&["set", "set", "set", "other", ""]);
    let revision = format!("web-{}", dice.one(&["a", "b", "c"]));
    let gate = dice.one(&["True", "True", "False"]);
    let message = dice.one(&["", "updating to web-b, out of service since 2026-01-01T00:00:01Z"]);
    let hook = if dice.roll(4) == 0 {
        json!({"postStart": {}})
    } else {
        json!(null)
    };
    let barrier = json!([{"name": names::LAUNCH_BARRIER, "valueFrom": {"configMapKeyRef": {"key": "p_3"}}}]);
    let mut pod = json!({
        "metadata": {
            "name": name, "uid": name, "namespace": "n",
            "labels": {
                "app": dice.one(&["web", "web", "web", "other"]),
                names::LIFECYCLE_STATE: dice.one(&["Normal", "PreparingDelete", "PreparingUpdate", "Updating", ""]),
            },
            "ownerReferences": [{"kind": "CloneSet", "uid": owner, "controller": !owner.is_empty()}],
        },
        "spec": {
            "nodeName": dice.one(&[Some("node"), None]),
            "containers": [{"name": "app", "lifecycle": hook, "env": if dice.roll(5) == 0 { barrier } else { json!([]) }}],
        },
        "status": {
            "phase": dice.one(&["Running", "Running", "Running", "Pending", "Failed"]),
            "conditions": [
                {"type": "Ready", "status": dice.one(&["True", "True", "False"]), "lastTransitionTime": dice.one(&TIMES)},
                {"type": names::INPLACE_READY, "status": gate, "message": message, "lastTransitionTime": dice.one(&TIMES)},
            ],
            "containerStatuses": [{"name": "app", "ready": dice.roll(5) > 0, "restartCount": dice.roll(3),
                "state": {"running": {"startedAt": dice.one(&TIMES)}}}],
        },
    });
    for (label, value, chance) in [
        (names::REVISION, revision.as_str(), 9),
        (names::SPECIFIED_DELETE, "true", 1),
    ] {
        if dice.roll(10) < chance {
            pod["metadata"]["labels"][label] = json!(value);
        }
    }
    if dice.roll(6) == 0 {
        pod["metadata"]["deletionTimestamp"] = json!(TIMES[0]);
    }
    Arc::new(serde_json::from_value(pod).unwrap())
}

/// All that a roster says, with labels as texts: their places are its own business.
fn said(roster: &Roster) -> Vec<String> {
    let label = |member: &Member| member.label.map(|label| roster.labels()[usize::from(label)].clone());
    let members = roster.members().iter();
    members
        .map(|member| {
            let text = label(member);
            let member = Member {
                label: None,
                ..member.clone()
            };
            format!("{text:?} {member:?}")
        })
        .collect()
}

#[test]
fn one_that_was_told_of_each_change_is_as_one_that_is_made_anew() {
    for seed in 1..200 {
        let mut dice = Dice(seed);
        let mut there: BTreeMap<Arc<str>, Arc<Pod>> = BTreeMap::new();
        let mut roster = Roster::new(Some("set"), matcher("web"));
        for round in 0..40 {
            let mut changes = BTreeMap::new();
            for _ in 0..dice.roll(8) {
                let name: Arc<str> = format!("web-{}", dice.roll(12)).into();
                let pod = (dice.roll(3) > 0).then(|| pod(&mut dice, &name));
                match &pod {
                    Some(pod) => there.insert(name.clone(), pod.clone()),
                    None => there.remove(&name),
                };
                changes.insert(name, pod);
            }
            roster.take(changes);
            let anew = Roster::new(Some("set"), matcher("web")).with(there.values().cloned());
            assert_eq!(said(&roster), said(&anew), "seed {seed}, round {round}");
        }
    }
}

#[test]
fn it_says_of_each_pod_what_the_pod_says() {
    let matcher = matcher("web");
    for seed in 1..3000 {
        let mut dice = Dice(seed);
        let roster = Roster::new(Some("set"), matcher.clone()).with([pod(&mut dice, "web-x")]);
        let member = &roster.members()[0];
        let pod = member.pod();
        let owner = pod.controller.as_ref().map(|owner| &*owner.uid);
        let selected = matcher.selects(&pod.labels);
        assert_eq!(
            member.relation == Relation::Ours,
            owner == Some("set") && selected && pod.active()
        );
        assert_eq!(
            member.relation == Relation::Orphan,
            owner.is_none() && selected && pod.active()
        );
        assert_eq!(
            member.relation == Relation::Stray,
            owner == Some("set") && !selected && !pod.metadata.terminating
        );
        for min_ready in [0, 2, 6].map(SignedDuration::from_secs) {
            for time in TIMES {
                let now = time.parse().unwrap();
                assert_eq!(
                    member.available(min_ready, now),
                    pod.available(min_ready, now),
                    "{pod:?}"
                );
            }
        }
        let label = member.label.map(|label| &*roster.labels()[usize::from(label)]);
        assert_eq!(
            label.is_some_and(|label| same_revision(label, "web-a")),
            pod.at_revision("web-a")
        );
        assert_eq!(member.ready, pod.ready());
        assert_eq!(member.ready_since(), pod.ready_since());
        assert_eq!(member.drains, Drain::of(pod).is_some());
        assert_eq!(member.gate_closed, roster.out_of_service().count() == 1);
    }
}
