//! The API server and the CustomResourceDefinitions.

use afloat_api::names::WEBHOOK_SERVICE;
use jiff::SignedDuration;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

use super::line::{Line, word};
use crate::install::status::seen::Seen;

/// The oldest minor version of Kubernetes 1 that the chart allows.
const OLDEST_MINOR: u32 = 28;
/// Two clocks that differ by less are one: Date has seconds only, and an answer takes its time.
const SKEW: SignedDuration = SignedDuration::from_secs(2);

pub(super) fn version(seen: &Seen) -> Line {
    const ABOUT: &str = "cluster";
    let says = format!("Kubernetes {}", seen.version);
    let minor = seen.version.trim_start_matches('v').split('.').nth(1);
    match minor.and_then(|minor| minor.parse::<u32>().ok()) {
        Some(minor) if minor < OLDEST_MINOR => Line::warning(
            ABOUT,
            says,
            format!("nobody has tried versions before 1.{OLDEST_MINOR}"),
        ),
        _ => Line::ok(ABOUT, says),
    }
}

/// Grace periods are counted from times that are written in objects.
pub(super) fn clock(seen: &Seen) -> Line {
    const ABOUT: &str = "clock";
    let Some((theirs, [before, after])) = seen.clock else {
        return Line::ok(ABOUT, "the API server does not tell its time");
    };
    // It was right for an instant between the two, and has lost its fraction of a second.
    let ahead = theirs.duration_since(after);
    let behind = before.duration_since(theirs);
    let apart = ahead.max(behind);
    if apart <= SKEW {
        return Line::ok(ABOUT, "this machine and the API server agree");
    }
    let way = if ahead > behind { "behind" } else { "ahead of" };
    let says = format!("this machine is {} s {way} the API server", apart.as_secs());
    Line::warning(
        ABOUT,
        says,
        "let NTP set the clocks: grace periods count from times that others have written",
    )
}

pub(super) fn crds(seen: &Seen) -> Vec<Line> {
    const ABOUT: &str = "crds";
    let found = match &seen.crds {
        Ok(found) => found,
        Err(why) => return vec![Line::unknown(ABOUT, why)],
    };
    let of = |name: &str| found.iter().find(|crd| word(crd, "/metadata/name") == name);
    let ours = afloat_api::crds(&afloat_api::Serving::default());
    let mut lines = Vec::new();
    for wanted in &ours {
        let name = wanted.metadata.name.as_deref().unwrap_or_default();
        lines.push(match of(name) {
            Some(crd) => one(name, crd, wanted),
            None => Line::failure(ABOUT, format!("{name} is missing"), "afloat crds | kubectl apply -f -"),
        });
        lines.extend(of(name).and_then(|crd| conversion(name, crd)));
    }
    lines
}

fn one(name: &str, crd: &Value, wanted: &CustomResourceDefinition) -> Line {
    const ABOUT: &str = "crds";
    let conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
    let established = conditions
        .into_iter()
        .any(|c| c["type"] == "Established" && c["status"] == "True");
    if !established {
        let says = format!("{name} is not established");
        return Line::failure(ABOUT, says, format!("kubectl describe crd {name}"));
    }
    let served = |versions: &mut dyn Iterator<Item = (String, bool)>| {
        let mut served: Vec<_> = versions.filter(|(_, served)| *served).map(|(name, _)| name).collect();
        served.sort();
        served
    };
    let theirs = crd["spec"]["versions"].as_array().into_iter().flatten();
    let theirs = served(&mut theirs.map(|v| (word(v, "/name").to_owned(), v["served"] == true)));
    let ours = served(&mut wanted.spec.versions.iter().map(|v| (v.name.clone(), v.served)));
    let newest = ours.last().cloned().unwrap_or_default();
    if !theirs.contains(&newest) {
        let says = format!(
            "{name} serves {} and not {newest}, which the operator uses",
            theirs.join(", ")
        );
        return Line::failure(
            ABOUT,
            says,
            "afloat crds | kubectl apply -f - (OpenKruise's own: afloat takeover)",
        );
    }
    let typed: Result<CustomResourceDefinition, _> = serde_json::from_str(&crd.to_string());
    let same = typed.is_ok_and(|typed| typed.spec.versions == wanted.spec.versions);
    let stored = crd["status"]["storedVersions"].as_array().into_iter().flatten();
    let stored: Vec<_> = stored.filter_map(Value::as_str).collect();
    let says = format!("{name} serves {}, stored as {}", theirs.join(", "), stored.join(", "));
    if same {
        return Line::ok(ABOUT, says);
    }
    let remedy = "afloat crds | kubectl apply -f - (unless another version of Afloat, or another --serve, is meant)";
    Line::warning(
        ABOUT,
        format!("{says}; it is not the definition of this version"),
        remedy,
    )
}

/// Whether somebody is asked to convert whom nobody can reach. That it answers, the API server says itself: `afloat status` reads
/// no objects in their other version.
fn conversion(name: &str, crd: &Value) -> Option<Line> {
    const ABOUT: &str = "crds";
    if word(crd, "/spec/conversion/strategy") != "Webhook" {
        return None;
    }
    let client = crd.pointer("/spec/conversion/webhook/clientConfig")?;
    let service = word(client, "/service/name");
    let place = format!("{}/{service}", word(client, "/service/namespace"));
    if !service.is_empty() && service != WEBHOOK_SERVICE {
        let says = format!("{name} is converted by {place}, which is not Afloat's");
        return Some(Line::warning(
            ABOUT,
            says,
            "afloat takeover, or apply what `afloat crds` prints",
        ));
    }
    if word(client, "/caBundle").is_empty() {
        let says = format!("{name} has no caBundle: the operator has not written it yet");
        return Some(Line::failure(
            ABOUT,
            says,
            "start the operator, which writes it; until then only v1beta1 can be read",
        ));
    }
    None
}
