//! Which requests a policy or a binding is for.

use serde_json::Value;

use super::read::{items, text, texts};
use super::request::Request;
use crate::resource::Resource;
use crate::selector::LabelSelector;

/// `MatchResources`.
#[derive(Debug)]
pub(super) struct Constraints {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    namespaces: Option<LabelSelector>,
    objects: Option<LabelSelector>,
    /// A rule for one version is for all: `matchPolicy: Equivalent`.
    equivalent: bool,
}

/// `NamedRuleWithOperations`; `*` is everything in each list.
#[derive(Debug)]
struct Rule {
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    operations: Vec<String>,
    names: Vec<String>,
    scope: String,
}

impl Constraints {
    pub(super) fn read(value: &Value) -> Self {
        let rules = |name: &str| items(&value[name]).map(Rule::read).collect();
        // A selector that cannot be read was refused with its policy.
        let selector = |name: &str| LabelSelector::from_value(value.get(name)?).ok();
        Self {
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            equivalent: value["matchPolicy"] != "Exact",
        }
    }

    /// No rules at all are no restriction: a policy has to have some, a binding need not.
    pub(super) fn fit(&self, request: &Request<'_>) -> bool {
        let any = |rules: &[Rule]| rules.iter().any(|rule| rule.fits(request, self.equivalent));
        (self.rules.is_empty() || any(&self.rules))
            && !any(&self.excluded)
            && self.in_namespace(request)
            && self.objects.as_ref().is_none_or(|selector| {
                let mut both = [request.object, request.old].into_iter().flatten();
                selector.selects_all() || both.any(|object| selector.matches(object))
            })
    }

    /// A namespace is in itself; what is in none is in all.
    fn in_namespace(&self, request: &Request<'_>) -> bool {
        let Some(selector) = &self.namespaces else { return true };
        let namespace = if request.resource.is_namespace() {
            request.object.or(request.old)
        } else {
            request.namespace
        };
        namespace.is_none_or(|namespace| selector.matches(namespace))
    }
}

impl Rule {
    fn read(value: &Value) -> Self {
        Self {
            groups: texts(&value["apiGroups"]),
            versions: texts(&value["apiVersions"]),
            resources: texts(&value["resources"]),
            operations: texts(&value["operations"]),
            names: texts(&value["resourceNames"]),
            scope: text(&value["scope"]).to_owned(),
        }
    }

    fn fits(&self, request: &Request<'_>, equivalent: bool) -> bool {
        let Resource {
            group,
            version,
            plural,
            namespaced,
            ..
        } = request.resource;
        let among = |list: &[String], word: &str| list.iter().any(|entry| entry == "*" || entry == word);
        among(&self.groups, group)
            && (equivalent || among(&self.versions, version))
            && among(&self.operations, request.operation.as_str())
            && (self.names.is_empty() || self.names.iter().any(|name| name == request.name))
            && match self.scope.as_str() {
                "Namespaced" => *namespaced,
                "Cluster" => !namespaced,
                _ => true,
            }
            && self
                .resources
                .iter()
                .any(|entry| named(entry, plural, request.subresource))
    }
}

/// `pods`, `pods/status`, `pods/*` (the pods, too), `*/status`, `*/*`; `*` is all resources without their subresources.
fn named(entry: &str, plural: &str, subresource: &str) -> bool {
    let fits = |pattern: &str, word: &str| pattern == "*" || pattern == word;
    match entry.split_once('/') {
        None => subresource.is_empty() && fits(entry, plural),
        Some((resource, part)) => fits(resource, plural) && (part == "*" || part == subresource),
    }
}
