//! What an update in place has to change of pods at other revisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{InPlaceUpdateState, UpdateSpec, names};
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde_json::Value;

use super::seen::Seen;
use crate::pod::change::Change;
use crate::pod::inplace::compare;
use crate::pod::label::same_revision;
use crate::pod::object::Pod;
use crate::pod::{batch, resize};
use crate::workload::history::Revisions;
use crate::workload::memo::Compared;
use crate::workload::revision::template;

/// Compares the update revision with each revision that pods still have, by its label; once per revision, as it is costly.
pub(super) fn compare_all(compared: &mut Compared, seen: &Seen<'_>, revisions: &Revisions, labels: &[&Arc<str>]) {
    if labels.is_empty() {
        return;
    }
    let claims = wanted_claims(seen, revisions);
    let on = (seen.server, seen.gates, claims.map(str::to_owned));
    if compared.on.as_ref() != Some(&on) {
        *compared = Compared::default();
        compared.on = Some(on);
    }
    let found = &mut compared.changes;
    for label in labels {
        if found.contains_key(&***label) {
            continue;
        }
        let named = |revision: &&Arc<ControllerRevision>| {
            revision
                .metadata
                .name
                .as_deref()
                .is_some_and(|name| same_revision(label, name))
        };
        let old_revision = seen.revisions.iter().find(named);
        let Some(old) = old_revision.and_then(|revision| template(revision)) else {
            continue;
        };
        let had = old_revision.and_then(|revision| claims_hash(revision));
        let change = compare(old, seen.owner.template).map_err(|obstacle| format!("{} changed", obstacle.0));
        let change = change.and_then(|change| {
            // OpenKruise 1.9.1 asks for both hashes: what was made before there were any is left alone.
            if claims.is_some() && had.is_some() && claims != had {
                return Err("volumeClaimTemplates changed".to_owned());
            }
            seen.server.allows(&change)?;
            change.under(seen.gates)
        });
        found.insert(label.to_string(), change);
    }
}

/// The hash of the claims that the update revision is wanted with, where that matters.
fn wanted_claims<'a>(seen: &Seen<'a>, revisions: &Revisions) -> Option<&'a str> {
    let present = seen.claims_hash?;
    // A revision that is wanted again is noted with the claims of now; one that is wanted still keeps those that it had.
    if revisions.number.is_some() {
        return Some(present);
    }
    let mut all = seen.revisions.iter();
    let update = all.find(|revision| revision.metadata.name.as_deref() == Some(&revisions.update))?;
    claims_hash(update)
}

fn claims_hash(revision: &ControllerRevision) -> Option<&str> {
    let annotations = revision.metadata.annotations.as_ref()?;
    annotations.get(names::CLAIMS_HASH).map(String::as_str)
}

/// A pod whose last update was cut off has the label of a revision that it does not have in full: in OpenKruise's
/// quiet period, between two batches of containers, or before its resize.
pub(super) fn add_unfinished(pod: &Pod, template: &Value, resizes: bool, change: &mut Change) {
    let mut images: Vec<String> = Vec::new();
    let mut metadata = BTreeMap::new();
    if let Some(spec) = UpdateSpec::read(&pod.annotations) {
        images.extend(spec.container_images.into_keys());
        metadata.extend(spec.container_ref_metadata);
    }
    let text = pod.annotations.get(names::INPLACE_STATE).unwrap_or_default();
    if text.contains("\"nextContainer") || text.contains("\"updateResources\"") {
        let state = InPlaceUpdateState::read(&pod.annotations).unwrap_or_default();
        images.extend(state.next_container_images.into_keys());
        metadata.extend(state.next_container_ref_metadata);
        if state.update_resources && resizes {
            change
                .resources
                .extend(resize::missing(pod, template, &BTreeMap::new()));
        }
    }
    for name in images {
        if let Some(image) = batch::image_of(template, &name) {
            change.images.insert(name, image.to_owned());
        }
    }
    let wanted = |part: &str, key: &str| {
        let map = template.pointer(part).and_then(Value::as_object);
        map.and_then(|map| map.get(key)?.as_str()).map(str::to_owned)
    };
    for entry in metadata.values_mut() {
        entry.labels.retain(|key, value| {
            wanted("/metadata/labels", key)
                .inspect(|w| value.clone_from(w))
                .is_some()
        });
        let annotation = |key: &String| wanted("/metadata/annotations", key);
        entry
            .annotations
            .retain(|key, value| annotation(key).inspect(|w| value.clone_from(w)).is_some());
    }
    batch::add_metadata(change, &metadata);
}
