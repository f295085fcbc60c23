//! What is known of OpenKruise's manager, from its releases 1.8 and 1.9: names, flags and feature gates.

use afloat_api::{Gates, boolean};
use serde_json::Value;

/// Its Deployment, in its namespace.
pub(super) const DEPLOYMENT: &str = "kruise-controller-manager";
/// Its admission webhooks: kind and name of the configuration.
pub(super) const WEBHOOKS: [(&str, &str); 2] = [
    ("MutatingWebhookConfiguration", "kruise-mutating-webhook-configuration"),
    (
        "ValidatingWebhookConfiguration",
        "kruise-validating-webhook-configuration",
    ),
];
/// Annotation of both in which the manager keeps what it makes `webhooks` of, at its start and whenever they change.
pub(super) const WEBHOOK_TEMPLATE: &str = "template";
/// Groups of its kinds.
pub(super) const GROUPS: [&str; 2] = ["apps.kruise.io", "policy.kruise.io"];
/// Kinds whose objects the manager and its daemons make by themselves: their being there says nothing.
pub(super) const OWN_BOOKS: [&str; 2] = ["NodeImage", "NodePodProbe"];
/// Releases that this was tried with: major and minor.
pub(super) const TRIED: [(u32, u32); 2] = [(1, 8), (1, 9)];

/// A second argument of the same name wins, so this one makes the manager stand for another Lease. It then answers webhooks
/// and leads nothing.
pub(super) const HOLD_ARGUMENT: &str = "--leader-election-id=afloat-takeover";
/// The Lease that the manager waits for meanwhile; nobody releases it.
pub(super) const HOLD_LEASE: &str = "afloat-takeover";

/// Gates that do something for objects other than CloneSets, which nobody does once the manager is stopped; and what.
const GATES_FOR_OTHERS: [(&str, &str); 5] = [
    (
        "KruisePodReadinessGate",
        "every new pod gets the readiness gate KruisePodReady, and nobody would answer it",
    ),
    (
        "ResourcesDeletionProtection",
        "objects labelled policy.kruise.io/delete-protection could be deleted",
    ),
    (
        "DeletionProtectionForCRDCascadingGate",
        "CustomResourceDefinitions with objects could be deleted",
    ),
    ("SidecarTerminator", "sidecars of finished Jobs would go on running"),
    (
        "EnhancedLivenessProbe",
        "pods annotated with a liveness probe for Kruise's daemon would not be probed",
    ),
];
/// The value of a flag as Go's flag packages read it: `--name=value`, `-name=value` or two words; the last one counts.
pub(crate) fn flag(arguments: &[String], name: &str) -> Option<String> {
    let mut found = None;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(word) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        if let Some((key, value)) = word.split_once('=') {
            if key == name {
                found = Some(value.to_owned());
            }
        } else if word == name {
            found = words.next().cloned();
        }
    }
    found
}

/// Whether a flag without a value of its own says true; None if it is not there.
pub(super) fn switch(arguments: &[String], name: &str) -> Option<bool> {
    let bare = |word: &String| word.trim_start_matches('-') == name && word.starts_with('-');
    let said = |word: &String| match word.trim_start_matches('-').split_once('=') {
        _ if bare(word) => Some(true),
        // With a value that is neither its manager does not start.
        Some((key, value)) if key == name => Some(boolean(value).unwrap_or(true)),
        _ => None,
    };
    arguments.iter().rev().find_map(said)
}

/// The gates that do something for others and are on, with what they do.
pub(super) fn gates_for_others(gates: &str) -> Vec<(&'static str, &'static str)> {
    let protection = Gates::is_on(gates, "ResourcesDeletionProtection");
    GATES_FOR_OTHERS
        .into_iter()
        .filter(|(name, _)| {
            Gates::is_on(gates, name) && (protection || *name != "DeletionProtectionForCRDCascadingGate")
        })
        .collect()
}

/// Major and minor of a version in an image's tag, a Kubernetes version or the like: `v1.9.1` or `1.9`.
pub(super) fn release(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim_start_matches('v').split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The tag of an image's name; None if there is none, or only a digest.
pub(super) fn tag(image: &str) -> Option<&str> {
    let name = image.split('@').next()?;
    let (_, tag) = name.rsplit('/').next()?.split_once(':')?;
    Some(tag)
}

/// Position of the manager among a Deployment's containers: the one of that name, else the first.
pub(super) fn position(deployment: &Value) -> usize {
    let containers = deployment["spec"]["template"]["spec"]["containers"].as_array();
    let named = containers.and_then(|all| all.iter().position(|container| container["name"] == "manager"));
    named.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn flags_as_go_reads_them() {
        let arguments =
            words("--enable-leader-election --v=4 --feature-gates=A=true,B=false -leader-election-id kruise");
        assert_eq!(flag(&arguments, "feature-gates").as_deref(), Some("A=true,B=false"));
        assert_eq!(flag(&arguments, "leader-election-id").as_deref(), Some("kruise"));
        assert_eq!(flag(&arguments, "leader-election-namespace"), None);
        assert_eq!(
            flag(&words("--v=1 --v=2"), "v").as_deref(),
            Some("2"),
            "the last one counts"
        );
        assert_eq!(switch(&arguments, "enable-leader-election"), Some(true));
        assert_eq!(
            switch(&words("--enable-leader-election=false"), "enable-leader-election"),
            Some(false)
        );
        assert_eq!(switch(&arguments, "enable-pprof"), None);
    }

    #[test]
    fn gates_that_others_need() {
        let names = |gates| {
            gates_for_others(gates)
                .into_iter()
                .map(|(name, _)| name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(""), [""; 0]);
        assert_eq!(names("KruisePodReadinessGate=true"), ["KruisePodReadinessGate"]);
        assert_eq!(
            names("KruisePodReadinessGate=true,KruisePodReadinessGate=false"),
            [""; 0]
        );
        assert_eq!(
            names("AllAlpha=true,SidecarTerminator=false,KruisePodReadinessGate=false"),
            ["EnhancedLivenessProbe"]
        );
        assert_eq!(names("AllBeta=true"), ["ResourcesDeletionProtection"]);
        assert_eq!(names("CloneSetShortHash=true"), [""; 0]);
    }

    #[test]
    fn versions() {
        assert_eq!(
            tag("registry.example.com:5000/openkruise/kruise-manager:v1.9.1@sha256:00"),
            Some("v1.9.1")
        );
        assert_eq!(tag("registry.example.com:5000/kruise-manager"), None);
        assert_eq!(release("v1.9.1"), Some((1, 9)));
        assert_eq!(release("v1.32.10-eks-1"), Some((1, 32)));
        assert_eq!(release("latest"), None);
    }
}
