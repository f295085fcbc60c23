//! Which ordinals there are to be, and what is named after them.

use afloat_api::{Gates, StatefulSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// An ordinal. Kubernetes' are no larger than the largest `int32`.
pub(super) type Ordinal = u32;

/// The ordinals that pods are to have: as many as there are replicas, from the first one on, without those that are reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ordinals {
    start: Ordinal,
    /// Ranges, both ends included, in order, apart from each other.
    reserved: Vec<(Ordinal, Ordinal)>,
    replicas: usize,
    /// The first one after the last.
    end: Ordinal,
}

impl Ordinals {
    /// Those of a set.
    pub(super) fn of(set: &StatefulSet, gates: Gates) -> Self {
        let start = set.spec.ordinals.as_ref().filter(|_| gates.start_ordinal);
        let start = start.map_or(0, |ordinals| Ordinal::try_from(ordinals.start).unwrap_or(0));
        let reserved = set.spec.reserve_ordinals.as_deref().unwrap_or_default();
        Self::new(start, reserved, set.spec.replicas())
    }

    fn new(start: Ordinal, reserved: &[IntOrString], replicas: usize) -> Self {
        let mut ordinals = Self {
            start,
            reserved: apart(reserved.iter().filter_map(range).collect()),
            replicas,
            end: start,
        };
        ordinals.end = ordinals.iter().last().map_or(start, |last| last.saturating_add(1));
        ordinals
    }

    /// From the smallest to the largest.
    pub(super) fn iter(&self) -> impl Iterator<Item = Ordinal> + '_ {
        let mut next = self.start;
        let mut reserved = self.reserved.iter().peekable();
        (0..self.replicas).map(move |_| {
            while let Some((first, last)) = reserved.peek() {
                if next < *first {
                    break;
                }
                next = next.max(last.saturating_add(1));
                reserved.next();
            }
            let this = next;
            next = next.saturating_add(1);
            this
        })
    }

    /// Whether a pod is to have it.
    pub(super) fn wants(&self, ordinal: Ordinal) -> bool {
        let reserved = || {
            let after = self.reserved.partition_point(|(first, _)| *first <= ordinal);
            after > 0 && ordinal <= self.reserved[after - 1].1
        };
        (self.start..self.end).contains(&ordinal) && !reserved()
    }
}

/// The ordinal of a pod of a set, by its name; None for names that the set gives no pod.
pub(super) fn ordinal(set: &str, pod: &str) -> Option<Ordinal> {
    let digits = pod.strip_prefix(set)?.strip_prefix('-')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let ordinal = digits.parse().ok().filter(|_| plain)?;
    i32::try_from(ordinal).is_ok().then_some(ordinal)
}

/// The name of the pod of a set at an ordinal.
pub(super) fn pod_name(set: &str, ordinal: Ordinal) -> String {
    format!("{set}-{ordinal}")
}

/// What is said of an entry of `reserveOrdinals` that reserves nothing.
pub(super) fn misspelt(set: &StatefulSet) -> Option<String> {
    let mut entries = set.spec.reserve_ordinals.iter().flatten();
    let entry = match entries.find(|entry| range(entry).is_none())? {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    };
    Some(format!(
        "spec.reserveOrdinals: {entry} reserves nothing, as a range goes from a smaller ordinal to a larger one (\"2-5\")"
    ))
}

/// What an entry of `reserveOrdinals` reserves. What is neither a number nor a range the schema has refused; it reserves nothing.
fn range(entry: &IntOrString) -> Option<(Ordinal, Ordinal)> {
    match entry {
        IntOrString::Int(number) => Ordinal::try_from(*number).ok().map(|number| (number, number)),
        IntOrString::String(text) => {
            let (first, last) = text.split_once('-')?;
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some((first, last))
        }
    }
}

/// In order, and those that touch as one.
fn apart(mut ranges: Vec<(Ordinal, Ordinal)>) -> Vec<(Ordinal, Ordinal)> {
    ranges.sort_unstable();
    let mut apart: Vec<(Ordinal, Ordinal)> = Vec::new();
    for (first, last) in ranges {
        match apart.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => apart.push((first, last)),
        }
    }
    apart
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(text: &str) -> IntOrString {
        text.parse()
            .map_or_else(|_| IntOrString::String(text.into()), IntOrString::Int)
    }

    fn ordinals(start: Ordinal, reserved: &[&str], replicas: usize) -> Ordinals {
        let reserved: Vec<_> = reserved.iter().map(|text| entry(text)).collect();
        Ordinals::new(start, &reserved, replicas)
    }

    #[test]
    fn reserved_ones_are_skipped() {
        for (start, reserved, replicas, expected) in [
            (0, &[][..], 3, &[0, 1, 2][..]),
            (2, &["1", "3"], 4, &[2, 4, 5, 6]),
            (0, &["0", "2-5"], 3, &[1, 6, 7]),
            (0, &["4-6", "2-4", "-3", "5-2", "x"], 4, &[0, 1, 7, 8]),
            (5, &["0-3", "5"], 2, &[6, 7]),
            (0, &["0-4294967295"], 1, &[4_294_967_295]),
            (3, &[], 0, &[]),
        ] {
            let all: Vec<_> = ordinals(start, reserved, replicas).iter().collect();
            assert_eq!(all, expected, "{start} {reserved:?} {replicas}");
        }
    }

    #[test]
    fn a_range_that_goes_down_is_told_of() {
        let set = |entries: serde_json::Value| -> StatefulSet {
            serde_json::from_value(serde_json::json!({"spec": {"reserveOrdinals": entries}})).unwrap()
        };
        assert_eq!(misspelt(&set(serde_json::json!([1, "2-5"]))), None);
        let said = misspelt(&set(serde_json::json!(["5-2"]))).unwrap();
        assert!(said.starts_with("spec.reserveOrdinals: 5-2 reserves nothing"), "{said}");
    }

    #[test]
    fn only_names_that_the_set_gives_have_an_ordinal() {
        for (pod, expected) in [
            ("web-0", Some(0)),
            ("web-17", Some(17)),
            ("web-017", None),
            ("web-", None),
            ("web", None),
            ("web-a", None),
            ("web-+1", None),
            ("other-1", None),
            ("web-x-1", None),
            ("web-99999999999", None),
            ("web-2147483648", None),
        ] {
            assert_eq!(ordinal("web", pod), expected, "{pod}");
        }
        assert_eq!(ordinal("web-1", "web-1-2"), Some(2));
    }

    proptest! {
        #[test]
        fn who_is_wanted_is_listed(
            start in 0..6_u32,
            reserved in proptest::collection::vec(prop_oneof![
                (0..12_u32).prop_map(|n| n.to_string()),
                (0..12_u32, 0..4_u32).prop_map(|(a, b)| format!("{a}-{}", a + b)),
            ], 0..5),
            replicas in 0..8_usize,
        ) {
            let texts: Vec<&str> = reserved.iter().map(String::as_str).collect();
            let ordinals = ordinals(start, &texts, replicas);
            let all: Vec<_> = ordinals.iter().collect();
            let wanted: Vec<_> = (0..64).filter(|ordinal| ordinals.wants(*ordinal)).collect();
            prop_assert_eq!(&all, &wanted);
            prop_assert_eq!(all.len(), replicas);
        }
    }
}
