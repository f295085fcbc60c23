//! The Node authorizer: what requests of nodes are about, and whether that has to do with them.

use std::sync::LazyLock;

use super::identity::{LEASES, node_of};
use super::links::Source;
use crate::authorization::{Attributes, Decision, HeldRules, PolicyRule, User, bootstrap, quoted};
use crate::selector::FieldSelector;

/// What has to do with a node.
pub trait Related {
    /// Whether a pod is bound to it.
    fn runs(&self, node: &str, namespace: &str, pod: &str) -> bool;
    /// Whether one of its pods refers to something, by itself or by a volume.
    fn uses(&self, node: &str, source: Source, namespace: &str, name: &str) -> bool;
    /// Whether one of its pods has a claim with this volume.
    fn mounts(&self, node: &str, volume: &str) -> bool;
    /// Whether a VolumeAttachment is about it.
    fn attaches(&self, node: &str, attachment: &str) -> bool;
}

/// What no relation limits: the rules of the role `system:node`.
static RULES: LazyLock<Vec<PolicyRule>> = LazyLock::new(|| {
    let objects = bootstrap::objects().unwrap_or_default();
    let role = objects
        .iter()
        .find(|object| object.get("rules").is_some() && object["metadata"]["name"] == "system:node");
    role.map(PolicyRule::read_all).unwrap_or_default()
});

fn allowed() -> Decision {
    Decision::Allow(String::new())
}

fn no(why: impl Into<String>) -> Decision {
    Decision::NoOpinion(why.into())
}

fn if_related(node: &str, related: bool) -> Decision {
    if related {
        return allowed();
    }
    no(format!("no relationship found between node '{node}' and this object"))
}

/// Decides a request, if a node makes it.
pub fn decide(related: &dyn Related, asked: &Attributes<'_>) -> Decision {
    let Some(node) = node_of(asked.user) else {
        return no("");
    };
    if node.is_empty() {
        return no(format!("unknown node for user {}", quoted(&asked.user.name)));
    }
    if !asked.is_resource {
        return by_rules(asked);
    }
    match (asked.group, asked.resource) {
        ("", "secrets") => read(related, node, Source::Secret, asked),
        ("", "configmaps") => read(related, node, Source::ConfigMap, asked),
        ("", "persistentvolumeclaims") if asked.subresource == "status" => claim_status(related, node, asked),
        ("", "persistentvolumeclaims") => get(node, asked, || {
            related.uses(node, Source::Claim, asked.namespace, asked.name)
        }),
        ("", "persistentvolumes") => get(node, asked, || related.mounts(node, asked.name)),
        ("", "serviceaccounts") => token(related, node, asked),
        ("", "nodes") => own_node(node, asked),
        ("", "pods") => pod(related, node, asked),
        ("resource.k8s.io", "resourceclaims") => get(node, asked, || false),
        ("storage.k8s.io", "volumeattachments") => get(node, asked, || related.attaches(node, asked.name)),
        ("storage.k8s.io", "csinodes") => csi_node(node, asked),
        ("coordination.k8s.io", "leases") => lease(node, asked),
        _ => by_rules(asked),
    }
}

/// The rules that hold for somebody in a namespace: those of a node cannot be listed.
pub fn rules(user: &User) -> HeldRules {
    if node_of(user).is_none() {
        return HeldRules::default();
    }
    HeldRules {
        errors: vec!["node authorizer does not support user rule resolution".to_owned()],
        incomplete: true,
        ..HeldRules::default()
    }
}

fn by_rules(asked: &Attributes<'_>) -> Decision {
    if RULES.iter().any(|rule| rule.allows(asked)) {
        allowed()
    } else {
        no("")
    }
}

fn read(related: &dyn Related, node: &str, source: Source, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "list" | "watch") {
        return no("can only read resources of this type");
    }
    if !asked.subresource.is_empty() {
        return no("cannot read subresource");
    }
    if asked.namespace.is_empty() {
        return no("can only read namespaced object of this type");
    }
    named(node, asked, || related.uses(node, source, asked.namespace, asked.name))
}

fn get(node: &str, asked: &Attributes<'_>, has: impl FnOnce() -> bool) -> Decision {
    if asked.verb != "get" {
        return no("can only get individual resources of this type");
    }
    if !asked.subresource.is_empty() {
        return no("cannot get subresource");
    }
    named(node, asked, has)
}

fn named(node: &str, asked: &Attributes<'_>, has: impl FnOnce() -> bool) -> Decision {
    if asked.name.is_empty() {
        return no("No Object name found");
    }
    if_related(node, has())
}

fn claim_status(related: &dyn Related, node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "update" | "patch") {
        return no("can only get/update/patch this type");
    }
    named(node, asked, || {
        related.uses(node, Source::Claim, asked.namespace, asked.name)
    })
}

fn token(related: &dyn Related, node: &str, asked: &Attributes<'_>) -> Decision {
    if asked.verb != "create" || asked.name.is_empty() {
        return no("can only create tokens for individual service accounts");
    }
    if asked.subresource != "token" {
        return no("can only create token subresource of serviceaccount");
    }
    if_related(node, related.uses(node, Source::Account, asked.namespace, asked.name))
}

fn lease(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != LEASES {
        return no(format!(
            "can only access leases in the {} system namespace",
            quoted(LEASES)
        ));
    }
    // What a new one is called only admission knows.
    if asked.verb != "create" && asked.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    allowed()
}

fn csi_node(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    allowed()
}

fn own_node(node: &str, asked: &Attributes<'_>) -> Decision {
    match (asked.subresource, asked.verb) {
        // Which one, is for admission to say.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => allowed(),
        ("", "get" | "list" | "watch") => match asked.name {
            name if name == node => allowed(),
            "" => no(format!("node '{node}' cannot read all nodes, only its own Node object")),
            other => no(format!("node '{node}' cannot read '{other}', only its own Node object")),
        },
        _ => no(""),
    }
}

fn pod(related: &dyn Related, node: &str, asked: &Attributes<'_>) -> Decision {
    let runs = || related.runs(node, asked.namespace, asked.name);
    match (asked.subresource, asked.verb) {
        ("", "get") => named(node, asked, runs),
        ("", "list" | "watch") => {
            if FieldSelector::required(asked.field_selector, "spec.nodeName").as_deref() == Some(node) {
                allowed()
            } else if asked.name.is_empty() {
                no("can only list/watch pods with spec.nodeName field selector")
            } else {
                if_related(node, runs())
            }
        }
        // Which ones, is for admission to say.
        ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => allowed(),
        _ => no(""),
    }
}
