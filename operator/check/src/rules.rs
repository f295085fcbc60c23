//! The table of rules. A rule is one small function; what belongs together is in one file.

mod annotations;
mod images;
mod pace;
mod probes;
mod rollout;
mod service;
pub(crate) mod shutdown;
mod source;

use crate::rule::Rule;

/// All rules, by what they are about.
pub const RULES: &[Rule] = &[
    probes::NO_READINESS_PROBE,
    probes::LIVENESS_BEFORE_READY,
    probes::SLOW_START,
    probes::LIVENESS_EQUALS_READINESS,
    probes::LIVENESS_GRACE,
    probes::POST_START_BLOCKS,
    shutdown::RECREATE_WITHOUT_DRAIN,
    shutdown::PRE_STOP_EXCEEDS_GRACE,
    shutdown::GRACE_TOO_SHORT,
    shutdown::NO_GRACE,
    shutdown::SHELL_MISSING,
    rollout::IN_PLACE_WITHOUT_GRACE,
    pace::SLOW_RETURN,
    rollout::LAST_ENDPOINT,
    rollout::SINGLE_REPLICA,
    rollout::MAX_UNAVAILABLE_ALL,
    rollout::HOST_PORT,
    rollout::BUDGET_ALLOWS_NOTHING,
    rollout::BUDGET_ALLOWS_ALL,
    service::SELECTS_NOTHING,
    service::PORT_UNKNOWN,
    images::LATEST_TAG,
    images::INIT_SHARES_IMAGE,
    images::TWO_TAGS,
    annotations::VALUE,
    annotations::PLACE,
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_texts_complete() {
        let ids: BTreeSet<_> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), RULES.len());
        for rule in RULES {
            assert!(
                rule.id.chars().all(|c| c.is_ascii_lowercase() || c == '-'),
                "{}",
                rule.id
            );
            assert!(rule.link.starts_with("https://"), "{}", rule.id);
            for text in [rule.why, rule.remedy] {
                assert!(text.ends_with('.'), "{}: {text}", rule.id);
            }
            assert!(!rule.title.ends_with('.'), "{}", rule.id);
        }
    }
}
