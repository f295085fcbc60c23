//! Conversion between the versions of a kind, on JSON: what a conversion does not know it leaves where it is, so that nothing is lost
//! that a schema keeps. Each kind is a row of [`KINDS`]: a function from v1alpha1 to v1beta1 and one back.
//!
//! The rules of a conversion, of which the tests hold each row to the first two:
//! * There and back again is the same object, from either side, but for what has two spellings: absent, and its default written out.
//! * Of `metadata` only labels and annotations may change; anything else the API server refuses (Kubernetes' page "Versions in
//!   CustomResourceDefinitions").
//! * What one version cannot say stands where OpenKruise puts it, and in an annotation of ours where OpenKruise loses it.

mod clone_set;
mod daemon_set;
mod fields;
mod recreate;
mod review;

use serde_json::Value;

use crate::names::GROUP;
use fields::Object;

pub use review::REVIEW_VERSION;

/// How a kind is converted. Both functions may rely on nothing: an object may be of any shape.
struct Kind {
    kind: &'static str,
    /// As in the name of the CRD.
    plural: &'static str,
    to_v1beta1: fn(&mut Object),
    to_v1alpha1: fn(&mut Object),
}

/// Kinds with two versions.
const KINDS: &[Kind] = &[
    Kind {
        kind: "CloneSet",
        plural: "clonesets",
        to_v1beta1: clone_set::to_v1beta1,
        to_v1alpha1: clone_set::to_v1alpha1,
    },
    Kind {
        kind: "DaemonSet",
        plural: "daemonsets",
        to_v1beta1: daemon_set::to_v1beta1,
        to_v1alpha1: daemon_set::to_v1alpha1,
    },
    Kind {
        kind: "ContainerRecreateRequest",
        plural: "containerrecreaterequests",
        to_v1beta1: recreate::to_v1beta1,
        to_v1alpha1: recreate::to_v1alpha1,
    },
    // Both versions have the same fields; OpenKruise's v1alpha1 lacks some of them, ours keeps them.
    Kind {
        kind: "StatefulSet",
        plural: "statefulsets",
        to_v1beta1: |_| (),
        to_v1alpha1: |_| (),
    },
];

/// Names of the CRDs whose kinds are converted.
pub fn definitions() -> impl Iterator<Item = String> {
    KINDS.iter().map(|kind| format!("{}.{GROUP}", kind.plural))
}

/// Converts an object to an API version of its kind. Objects that have it already stay as they are.
///
/// # Errors
/// Says what of the object cannot be converted.
pub fn convert(object: &mut Value, wanted: &str) -> Result<(), String> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, from) = (text("kind"), text("apiVersion"));
    let Some(object) = object.as_object_mut() else {
        return Err("an object is expected".into());
    };
    if from == wanted {
        return Ok(());
    }
    let row = KINDS.iter().find(|row| row.kind == kind);
    let row = row.ok_or_else(|| format!("kind {kind:?} is not converted here"))?;
    let version = |text: &str| {
        text.strip_prefix(GROUP)
            .and_then(|rest| rest.strip_prefix('/'))
            .map(str::to_owned)
    };
    match (version(&from).as_deref(), version(wanted).as_deref()) {
        (Some("v1alpha1"), Some("v1beta1")) => (row.to_v1beta1)(object),
        (Some("v1beta1"), Some("v1alpha1")) => (row.to_v1alpha1)(object),
        _ => return Err(format!("{kind} is not converted from {from:?} to {wanted:?}")),
    }
    object.insert("apiVersion".into(), wanted.into());
    Ok(())
}

/// The answer to a question of the API server, a ConversionReview. An object that cannot be converted is a failure of all of them,
/// which the answer says by name.
///
/// # Errors
/// Says why this is no question, for which there is no form of an answer.
pub fn review(question: &[u8]) -> Result<Value, String> {
    let mut question = review::read(question)?;
    let failure = question.objects.iter_mut().find_map(|object| {
        let error = convert(object, &question.desired).err()?;
        let name = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        Some(format!("{}/{}: {error}", name("namespace"), name("name")))
    });
    Ok(question.answer(failure))
}

#[cfg(test)]
mod tests;
