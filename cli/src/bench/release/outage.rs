//! How long a node's pod was out of service in a release, and what for: made of what a watch of the pods showed and of what the
//! node's runtime was asked for meanwhile. Pure.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

/// What a watch showed of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) uid: String,
    /// Empty: not bound.
    pub(super) node: String,
    /// Of its one container.
    pub(super) image: String,
    /// It is Ready and not about to go.
    pub(super) serves: bool,
}

/// A call of a node's runtime.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) verb: &'static str,
    pub(super) began: Instant,
    pub(super) ended: Instant,
}

/// What the time out of service was spent on, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Parts {
    /// Until the new image is in the pod, or the new pod is there: the drain.
    pub(super) leave: f64,
    /// Until the new pod has a node, on which there is no room before the old one is gone.
    pub(super) schedule: f64,
    /// Volumes.
    pub(super) volume: f64,
    /// The pod's network and address.
    pub(super) address: f64,
    pub(super) pull: f64,
    /// The container is made and begun.
    pub(super) start: f64,
    /// From there until the pod is Ready again.
    pub(super) r#return: f64,
    /// The rest: the old container's end, and the ways between API server, operator and node.
    pub(super) other: f64,
}

impl Parts {
    /// Names and values.
    pub(super) fn all(&self) -> [(&'static str, f64); 8] {
        [
            ("leave", self.leave),
            ("schedule", self.schedule),
            ("volume", self.volume),
            ("address", self.address),
            ("pull", self.pull),
            ("start", self.start),
            ("return", self.r#return),
            ("other", self.other),
        ]
    }
}

/// The time that a node's pod was out of service.
#[derive(Clone, Debug)]
pub(super) struct Outage {
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) parts: Parts,
    /// Pulls that went on meanwhile.
    pub(super) pulls: usize,
}

impl Outage {
    pub(super) fn seconds(&self) -> f64 {
        span(self.began, self.ended)
    }
}

fn span(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}

/// What is known of a pod: when its image was seen first, itself, and its node.
#[derive(Clone)]
struct Known {
    sight: Sight,
    seen: Instant,
    bound: Option<Instant>,
    image: Instant,
}

/// A node's time out of service in the making.
#[derive(Clone)]
struct Open {
    began: Instant,
    /// The pod that left.
    pod: String,
    back: Option<(Instant, Known)>,
}

/// Those of a release of an image, by node; one that is not over is left out. `sights` are in the order in which they were seen.
pub(super) fn outages(
    sights: &[(Instant, Sight)],
    calls: &BTreeMap<String, Vec<Call>>,
    image: &str,
) -> BTreeMap<String, Outage> {
    let mut pods: BTreeMap<&str, Known> = BTreeMap::new();
    let mut open: BTreeMap<String, Open> = BTreeMap::new();
    for (at, sight) in sights {
        let before = pods.get(sight.uid.as_str()).cloned();
        let known = Known {
            seen: before.as_ref().map_or(*at, |before| before.seen),
            bound: before
                .as_ref()
                .and_then(|before| before.bound)
                .or((!sight.node.is_empty()).then_some(*at)),
            image: match &before {
                Some(before) if before.sight.image == sight.image => before.image,
                _ => *at,
            },
            sight: sight.clone(),
        };
        let served = before.is_some_and(|before| before.sight.serves);
        if served && !sight.serves {
            let outage = open.entry(sight.node.clone()).or_insert_with(|| Open {
                began: *at,
                pod: sight.uid.clone(),
                back: None,
            });
            // Back too early: it is one time.
            outage.back = None;
        }
        if !served
            && sight.serves
            && sight.image == image
            && let Some(outage) = open.get_mut(&sight.node)
        {
            outage.back = Some((*at, known.clone()));
        }
        pods.insert(&sight.uid, known);
    }
    let ended = open.into_iter().filter_map(|(node, outage)| {
        let (ended, by) = outage.back.clone()?;
        let none = Vec::new();
        let calls = calls.get(&node).unwrap_or(&none);
        Some((node, close(&outage, ended, &by, calls)))
    });
    ended.collect()
}

fn close(outage: &Open, ended: Instant, by: &Known, calls: &[Call]) -> Outage {
    let began = outage.began;
    let within = |verbs: &'static [&'static str]| {
        let during = move |call: &&Call| verbs.contains(&call.verb) && call.ended > began && call.began < ended;
        calls.iter().filter(during)
    };
    let took = |verbs| -> f64 {
        within(verbs)
            .map(|call| span(call.began.max(began), call.ended.min(ended)))
            .sum()
    };
    let mut parts = Parts {
        volume: took(&["volume"]),
        address: took(&["sandbox"]),
        pull: took(&["pull"]),
        start: took(&["create", "start"]),
        ..Parts::default()
    };
    let started = within(&["start"]).map(|call| call.ended).max();
    parts.r#return = started.map_or(0.0, |started| span(started, ended));
    if by.sight.uid == outage.pod {
        parts.leave = span(began, by.image);
    } else {
        parts.leave = span(began, by.seen);
        parts.schedule = by.bound.map_or(0.0, |bound| span(by.seen.max(began), bound));
    }
    let known: f64 = parts.all().iter().map(|(_, value)| value).sum();
    parts.other = (span(began, ended) - known).max(0.0);
    Outage {
        began,
        ended,
        parts,
        pulls: within(&["pull"]).count(),
    }
}

/// The mean of each part.
pub(super) fn mean(outages: &BTreeMap<String, Outage>) -> Parts {
    let count = u32::try_from(outages.len()).map_or(1.0, f64::from).max(1.0);
    let of = |part: fn(&Parts) -> f64| outages.values().map(|outage| part(&outage.parts)).sum::<f64>() / count;
    Parts {
        leave: of(|parts| parts.leave),
        schedule: of(|parts| parts.schedule),
        volume: of(|parts| parts.volume),
        address: of(|parts| parts.address),
        pull: of(|parts| parts.pull),
        start: of(|parts| parts.start),
        r#return: of(|parts| parts.r#return),
        other: of(|parts| parts.other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// At a tenth of a second each: uid, node, image, serving.
    type Row<'a> = (u64, &'a str, &'a str, &'a str, bool);

    fn of(rows: &[Row<'_>], calls: &[(&'static str, u64, u64)]) -> BTreeMap<String, Outage> {
        let zero = Instant::now();
        let at = |tenths: u64| zero + Duration::from_millis(100 * tenths);
        let sight = |(tenths, uid, node, image, serves): &Row<'_>| {
            let sight = Sight {
                uid: (*uid).into(),
                node: (*node).into(),
                image: (*image).into(),
                serves: *serves,
            };
            (at(*tenths), sight)
        };
        let calls = calls.iter().map(|(verb, began, ended)| Call {
            verb,
            began: at(*began),
            ended: at(*ended),
        });
        let calls = BTreeMap::from([("n".to_owned(), calls.collect())]);
        outages(&rows.iter().map(sight).collect::<Vec<_>>(), &calls, "v2")
    }

    fn tenths(parts: &Parts) -> Vec<(&'static str, i64)> {
        #[allow(clippy::cast_possible_truncation)] // small
        let all = parts
            .all()
            .into_iter()
            .map(|(name, value)| (name, (value * 10.0).round() as i64));
        all.filter(|(_, value)| *value > 0).collect()
    }

    #[test]
    fn a_new_pod_is_placed_and_gets_a_volume_and_an_address() {
        let rows = [
            (0, "a", "n", "v1", true),
            (10, "a", "n", "v1", false),
            (12, "b", "", "v2", false),
            (15, "b", "n", "v2", false),
            (80, "b", "n", "v2", true),
        ];
        let calls = [
            ("pull", 1, 5), // of somebody before
            ("remove", 11, 14),
            ("volume", 16, 46),
            ("sandbox", 46, 48),
            ("pull", 49, 69),
            ("create", 70, 72),
            ("start", 72, 73),
        ];
        let found = of(&rows, &calls);
        let outage = &found["n"];
        assert!((outage.seconds() - 7.0).abs() < 1e-9 && outage.pulls == 1);
        let wanted = [
            ("leave", 2),
            ("schedule", 3),
            ("volume", 30),
            ("address", 2),
            ("pull", 20),
            ("start", 3),
            ("return", 7),
            ("other", 3),
        ];
        assert_eq!(tenths(&outage.parts), wanted);
        assert_eq!(mean(&found), outage.parts);
    }

    #[test]
    fn in_place_there_is_none_of_that() {
        let rows = [
            (0, "a", "n", "v1", true),
            (10, "a", "n", "v1", false),
            (12, "a", "n", "v2", false),
            (20, "a", "n", "v2", true),
        ];
        let warmed = [("pull", 2, 9), ("create", 14, 15), ("start", 15, 16)];
        let outage = &of(&rows, &warmed)["n"];
        assert_eq!(outage.pulls, 0, "before it left");
        assert_eq!(
            tenths(&outage.parts),
            [("leave", 2), ("start", 2), ("return", 4), ("other", 2)]
        );
        let late = [("pull", 8, 14), ("create", 14, 15), ("start", 15, 16)];
        let outage = &of(&rows, &late)["n"];
        assert_eq!((outage.pulls, tenths(&outage.parts)[1]), (1, ("pull", 4)));
    }

    #[test]
    fn what_is_not_over_does_not_count_and_a_relapse_goes_on() {
        let mut rows = vec![
            (0, "a", "n", "v1", true),
            (10, "a", "n", "v1", false),
            (12, "a", "n", "v1", true),
        ];
        assert!(of(&rows, &[]).is_empty(), "it came back with the old image");
        rows.extend([
            (20, "a", "n", "v2", false),
            (25, "a", "n", "v2", true),
            (30, "a", "n", "v2", false),
        ]);
        assert!(of(&rows, &[]).is_empty());
        rows.push((40, "a", "n", "v2", true));
        assert!((of(&rows, &[])["n"].seconds() - 3.0).abs() < 1e-9);
    }
}
