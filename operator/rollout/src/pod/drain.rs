//! Since when a pod is out of service, and for which revision: text in the message of a condition.

use std::fmt;
use std::str::FromStr;

use afloat_api::names;
use afloat_words::revision::revision;
use jiff::Timestamp;

use crate::pod::object::Pod;

/// Since when a pod is out of service, and for which revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// Name of the revision.
    pub revision: String,
    /// Start of the quiet period, with fractions of a second (the condition's own time has none).
    pub since: Timestamp,
    /// For a drain that is observed, the version of the pod in which it was last Ready, 0 if it was not when this began:
    /// what proxies have applied of older EndpointSlices is from before. None: the drain is timed.
    pub ready_at: Option<u64>,
}

/// Stands for a revision where a pod is out of service for its deletion.
pub const DELETION: &str = "deletion";

const PREFIX: &str = "updating to ";
const SINCE: &str = ", out of service since ";
const READY_AT: &str = ", last Ready in version ";

impl Drain {
    /// Reads it from the pod's condition; None if the pod is in service or was taken out of it by another writer.
    pub fn of(pod: &Pod) -> Option<Self> {
        let condition = pod
            .condition(names::INPLACE_READY)
            .filter(|condition| condition.status == "False")?;
        condition.message.as_deref()?.parse().ok()
    }

    /// One that begins now. `observed`: until the nodes' proxies have let go, not for a time.
    pub fn begin(pod: &Pod, revision: &str, observed: bool, now: Timestamp) -> Self {
        Self {
            revision: revision.to_owned(),
            since: now,
            ready_at: observed.then(|| Self::last_ready(pod)),
        }
    }

    /// The version in which the pod is Ready, or was before a drain that goes on.
    fn last_ready(pod: &Pod) -> u64 {
        let earlier = || Self::of(pod)?.ready_at;
        if pod.condition("Ready").is_some_and(|ready| ready.status == "True") {
            revision(&pod.metadata.resource_version)
        } else {
            earlier().unwrap_or(0)
        }
    }
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}{SINCE}{}", self.revision, self.since)?;
        match self.ready_at {
            Some(version) => write!(f, "{READY_AT}{version}"),
            None => Ok(()),
        }
    }
}

/// A text that tells of no drain of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoDrain;

impl FromStr for Drain {
    type Err = NoDrain;

    /// Reads just what is written, character by character: what somebody else wrote, or cut off, is no drain, and then
    /// one begins anew.
    fn from_str(text: &str) -> Result<Self, NoDrain> {
        let told = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once(SINCE));
        let (revision, rest) = told.ok_or(NoDrain)?;
        let (since, ready_at) = match rest.split_once(READY_AT) {
            Some((since, version)) => (since, Some(version.parse().map_err(|_| NoDrain)?)),
            None => (rest, None),
        };
        let drain = Self {
            revision: revision.to_owned(),
            since: since.parse().map_err(|_| NoDrain)?,
            ready_at,
        };
        let ours = !revision.is_empty() && drain.to_string() == text;
        ours.then_some(drain).ok_or(NoDrain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Revisions that name our own words among others, times with any fraction, versions of any size.
    fn drains() -> impl Strategy<Value = Drain> {
        let word = prop_oneof![
            Just(PREFIX.to_owned()),
            Just(SINCE.to_owned()),
            Just(READY_AT.to_owned()),
            Just("2026-01-01T00:00:00Z".to_owned()),
            "[a-z0-9.-]{1,8}",
            ".{0,4}",
        ];
        let revision = proptest::collection::vec(word, 0..5).prop_map(|words| words.concat());
        let since = (-1_000_000_000_000_i64..4_000_000_000_000, 0..1_000_000_000_i32).prop_map(|(millis, nanos)| {
            let whole = Timestamp::from_second(millis / 1000).unwrap();
            whole + jiff::SignedDuration::from_nanos(nanos.into())
        });
        (revision, since, proptest::option::of(any::<u64>())).prop_map(|(revision, since, ready_at)| Drain {
            revision,
            since,
            ready_at,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again_or_refused(drain in drains()) {
            let read = drain.to_string().parse();
            if drain.revision.is_empty() || drain.revision.contains(SINCE) {
                prop_assert_eq!(read, Err(NoDrain));
            } else {
                prop_assert_eq!(read, Ok(drain));
            }
        }

        #[test]
        fn what_is_read_was_written(drain in drains(), cut in any::<prop::sample::Index>(), with in ".{0,3}") {
            let mut text = drain.to_string();
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
            let at = places[cut.index(places.len())];
            let end = text[at..].chars().next().map_or(at, |first| at + first.len_utf8());
            text.replace_range(at..end, &with);
            if let Ok(read) = text.parse::<Drain>() {
                prop_assert_eq!(read.to_string(), text);
            }
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in ".*") {
            prop_assert_eq!(text.parse::<Drain>(), Err(NoDrain));
        }
    }

    #[test]
    fn what_another_hand_wrote_is_no_drain() {
        for text in [
            "",
            "updating to web-new",
            "updating to web-new, out of service since today",
            "updating to web-new, out of service since 2026-01-01T00:00:00+00:00",
            "updating to web-new, out of service since 2026-01-01T00:00:00Z ",
            "updating to web-new, out of service since 2026-01-01T00:00:00Z, last Ready in version",
            "updating to web-new, out of service since 2026-01-01T00:00:00Z, last Ready in version seven",
            "updating to web-new, out of service since 2026-01-01T00:00:00Z, last Ready in version +7",
            "updating to , out of service since 2026-01-01T00:00:00Z",
        ] {
            assert_eq!(text.parse::<Drain>(), Err(NoDrain), "{text:?}");
        }
    }

    #[test]
    fn a_foreign_false_is_no_drain() {
        let mut pod = Pod::default();
        pod.status.conditions = serde_json::from_value(json!([
            {"type": names::INPLACE_READY, "status": "False", "reason": names::START_INPLACE_UPDATE}
        ]))
        .unwrap();
        assert_eq!(Drain::of(&pod), None);
    }
}
