//! What becomes of a pod, a template and a namespace.

use serde_json::Value;

use super::checks::evaluate;
use super::pod::{Pod, Violation};
use super::policy::{Level, LevelVersion, Policy};
use crate::FieldError;
use crate::json::{list, text};

/// What is said of a pod or a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why it is refused, if it is.
    pub refused: Option<String>,
    /// What its author is told.
    pub warnings: Vec<String>,
    /// What is noted for the operator of the cluster.
    pub audit: Option<String>,
}

/// `hostPort (container "a" uses hostPort 80), privileged (…)`
fn sentence(violations: &[Violation]) -> String {
    let one = |violation: &Violation| match violation.detail.as_str() {
        "" => violation.reason.to_owned(),
        detail => format!("{} ({detail})", violation.reason),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What a mode says of a pod, beginning with `verb`.
fn said(asked: LevelVersion, pod: Pod<'_>, verb: &str) -> Option<String> {
    let violations = evaluate(asked, pod);
    (!violations.is_empty()).then(|| format!("{verb} PodSecurity \"{asked}\": {}", sentence(&violations)))
}

fn told(policy: &Policy, pod: Pod<'_>) -> Verdict {
    Verdict {
        refused: None,
        warnings: said(policy.warn, pod, "would violate").into_iter().collect(),
        audit: said(policy.audit, pod, "would violate"),
    }
}

/// Reviews a new pod, or the change of one, in a namespace with these labels. A change that puts no other image in and adds no
/// container is not looked at: the fields that count cannot change.
pub fn review_pod(labels: &Value, old: Option<&Value>, pod: &Value) -> Verdict {
    let (policy, errors) = Policy::of(labels);
    if errors.is_empty() && policy.is_privileged() || old.is_some_and(|old| !counts(old, pod)) {
        return Verdict::default();
    }
    let pod = Pod {
        metadata: pod.get("metadata"),
        spec: pod.get("spec").unwrap_or(&Value::Null),
    };
    match said(policy.enforce, pod, "violates") {
        None => told(&policy, pod),
        refused => Verdict {
            refused,
            audit: said(policy.audit, pod, "would violate"),
            warnings: Vec::new(),
        },
    }
}

/// Reviews the template of pods, for example a Deployment's: it is never refused.
pub fn review_template(labels: &Value, template: &Value) -> Verdict {
    let (policy, errors) = Policy::of(labels);
    if errors.is_empty() && policy.tells_nobody() {
        return Verdict::default();
    }
    let pod = Pod {
        metadata: template.get("metadata"),
        spec: template.get("spec").unwrap_or(&Value::Null),
    };
    told(&policy, pod)
}

/// Whether the change of a pod is one that is looked at.
fn counts(old: &Value, new: &Value) -> bool {
    let (old, new) = (old.get("spec"), new.get("spec"));
    let image = |container: &Value| text(container.get("image")).to_owned();
    let other = |kind: &str| {
        let (old, new) = (list(old, kind), list(new, kind));
        old.len() != new.len() || old.iter().zip(new).any(|(old, new)| image(old) != image(new))
    };
    let ephemeral = |new: &Value| {
        let same = |old: &&Value| old.get("name") == new.get("name");
        let before = list(old, "ephemeralContainers").iter().find(same);
        before.is_none_or(|old| image(old) != image(new))
    };
    other("containers") || other("initContainers") || list(new, "ephemeralContainers").iter().any(ephemeral)
}

/// What the change of a namespace means for the pods in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceChange {
    /// Nothing that they must be looked at for.
    Nothing,
    /// From now on new ones have to be like this.
    Stricter(LevelVersion),
}

/// Reviews a new namespace, or the change of one.
///
/// # Errors
/// Labels that name no level or version, unless they were there before.
pub fn review_namespace(old: Option<&Value>, new: &Value) -> Result<NamespaceChange, Vec<FieldError>> {
    let labels = |namespace: &Value| Policy::of(namespace.pointer("/metadata/labels").unwrap_or(&Value::Null));
    let (after, errors) = labels(new);
    let Some((before, known)) = old.map(labels) else {
        return if errors.is_empty() {
            Ok(NamespaceChange::Nothing)
        } else {
            Err(errors)
        };
    };
    if !errors.is_empty() && errors != known {
        return Err(errors);
    }
    let (before, after) = (before.enforce, after.enforce);
    let relaxed = before.version == after.version && after.level <= before.level;
    Ok(if before == after || after.level == Level::Privileged || relaxed {
        NamespaceChange::Nothing
    } else {
        NamespaceChange::Stricter(after)
    })
}
