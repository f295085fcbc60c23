//! Who acts, and who is in the way.

use std::collections::BTreeSet;

use afloat_install::OPERATOR;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::line::{Line, few, known, word};
use crate::install::status::seen::Seen;

/// What OpenKruise calls the Deployment of its manager.
const KRUISE: &str = "kruise-controller-manager";
/// Later than Afloat and OpenKruise renew.
const RENEWED: SignedDuration = SignedDuration::from_secs(15);

pub(super) fn lease(seen: &Seen) -> Vec<Line> {
    const ABOUT: &str = "lease";
    let place = format!("{}/{}", seen.lease_place.0, seen.lease_place.1);
    let lease = match &seen.lease {
        Ok(Some(lease)) => lease,
        Ok(None) => {
            let says = format!("there is no Lease {place}: nobody acts");
            return vec![Line::failure(
                ABOUT,
                says,
                "start an operator; where one runs, its log says what it may not",
            )];
        }
        Err(why) => return vec![Line::unknown(ABOUT, why)],
    };
    let holder = word(lease, "/spec/holderIdentity");
    if holder.is_empty() {
        let says = format!("nobody holds {place}: nobody acts");
        return vec![Line::failure(
            ABOUT,
            says,
            "look again in a few seconds, then read the operators' logs",
        )];
    }
    let now = seen.clock.map(|(theirs, _)| theirs);
    let renewed: Option<Timestamp> = word(lease, "/spec/renewTime").parse().ok();
    let age = now.zip(renewed).map(|(now, renewed)| now.duration_since(renewed));
    let duration = lease["spec"]["leaseDurationSeconds"].as_i64().unwrap_or(15);
    let limit = SignedDuration::from_secs(duration).max(RENEWED);
    let pod = holder.split('_').next().unwrap_or_default();
    let says = format!("{holder} holds {place}");
    let mut lines = Vec::new();
    if age.is_some_and(|age| age > limit) {
        let seconds = age.map_or(0, |age| age.as_secs());
        let says = format!("{says}, which was renewed {seconds} s ago by its clock");
        let remedy = "if that grows, the holder is gone and nobody acts: read the operators' logs; if it stays, the holder's clock is behind";
        lines.push(Line::warning(ABOUT, says, remedy));
    } else if age.is_some_and(|age| age < -RENEWED) {
        let says = format!(
            "{says}, and its clock is {} s ahead of the API server's",
            age.map_or(0, |age| -age.as_secs())
        );
        lines.push(Line::warning(ABOUT, says, "let NTP set the clock of its node"));
    } else if pod.starts_with(KRUISE) {
        let remedy = "afloat takeover; or scale OpenKruise's manager to 0";
        lines.push(Line::warning(
            ABOUT,
            format!("{says}: OpenKruise acts, Afloat stands by"),
            remedy,
        ));
    } else {
        lines.push(Line::ok(ABOUT, says));
    }
    lines
}

/// Webhooks that the API server has to ask before a pod or a CloneSet is written, that nobody answers, and without whose answer it
/// refuses.
pub(super) fn webhooks(seen: &Seen) -> Vec<Line> {
    const ABOUT: &str = "webhooks";
    let configurations = match &seen.webhooks {
        Ok(configurations) => configurations,
        Err(why) => return vec![Line::unknown(ABOUT, why)],
    };
    let (mut lines, mut asked) = (Vec::new(), BTreeSet::new());
    for configuration in configurations {
        let kind = word(configuration, "/kind");
        let name = word(configuration, "/metadata/name");
        for webhook in configuration["webhooks"].as_array().into_iter().flatten() {
            let resources = concerned(webhook);
            if resources.is_empty() || webhook["failurePolicy"] == "Ignore" {
                continue;
            }
            asked.insert(name);
            let place = (
                word(webhook, "/clientConfig/service/namespace"),
                word(webhook, "/clientConfig/service/name"),
            );
            let Some(slices) = seen.endpoints.get(&(place.0.to_owned(), place.1.to_owned())) else {
                continue; // a URL: only the API server knows whether it reaches it
            };
            if slices.as_ref().is_ok_and(|slices| !ready(slices, place.1)) {
                let says = format!(
                    "{} of {kind} {name} has to be asked about {} and its Service {}/{} has no ready endpoint: such writes fail",
                    word(webhook, "/name"),
                    resources.join(", "),
                    place.0,
                    place.1
                );
                let remedy = format!("bring back what serves it, or delete the {kind} {name} if it is left over");
                lines.push(Line::failure(ABOUT, says, remedy));
            }
        }
    }
    if lines.is_empty() {
        let names: Vec<_> = asked.into_iter().collect();
        let says = if names.is_empty() {
            "none has to be asked about pods or CloneSets".to_owned()
        } else {
            format!(
                "those that have to be asked about pods or CloneSets have endpoints: {}",
                few(&names)
            )
        };
        lines.push(Line::ok(ABOUT, says));
    }
    lines
}

/// Which of what the operator writes a webhook is about.
fn concerned(webhook: &Value) -> Vec<&'static str> {
    let has = |rule: &Value, field: &str, word: &str| {
        let list = rule[field].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).any(|one| one == "*" || one == word)
    };
    let about = |group: &str, resource: &str| {
        let rules = webhook["rules"].as_array().into_iter().flatten();
        rules.into_iter().any(|rule| {
            let whole = has(rule, "resources", "*/*");
            has(rule, "apiGroups", group) && (whole || has(rule, "resources", resource))
        })
    };
    let all = [("", "pods"), ("", "pods/status"), ("apps.kruise.io", "clonesets")];
    all.into_iter()
        .filter(|(group, resource)| about(group, resource))
        .map(|(_, resource)| resource)
        .collect()
}

/// Whether a Service has an endpoint that takes connections.
fn ready(slices: &[Value], service: &str) -> bool {
    let own = slices
        .iter()
        .filter(|slice| word(slice, "/metadata/labels/kubernetes.io~1service-name") == service);
    own.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
        .any(|endpoint| endpoint["conditions"]["ready"] != false)
}

/// OpenKruise's manager beside us: harmless as long as it waits for the same Lease.
pub(super) fn kruise(seen: &Seen) -> Option<Line> {
    const ABOUT: &str = "kruise";
    let running =
        |pod: &&Value| word(pod, "/metadata/name").starts_with(KRUISE) && word(pod, "/status/phase") == "Running";
    let pods: Vec<_> = known(&seen.beside)
        .iter()
        .filter(running)
        .map(|pod| word(pod, "/metadata/name"))
        .collect();
    if pods.is_empty() {
        return None;
    }
    let own = seen.lease_place.1 == afloat_api::names::MANAGER_LEASE;
    let says = format!("OpenKruise's manager runs as well ({})", few(&pods));
    Some(if own {
        let remedy = format!(
            "nothing, if another of its controllers is used; for CloneSets alone: scale it to 0, and {OPERATOR} stays"
        );
        Line::warning(
            ABOUT,
            format!("{says}; both wait for the same Lease, so only one acts"),
            remedy,
        )
    } else {
        let says = format!("{says} and waits for another Lease: both act");
        Line::failure(
            ABOUT,
            says,
            "install Afloat with OpenKruise's own Lease (the default), or scale its manager to 0",
        )
    })
}
