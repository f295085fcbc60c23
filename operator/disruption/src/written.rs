//! What is wrong with a budget that somebody writes, as far as the schema does not say it: unreadable annotations, and pods that another
//! budget may be about as well. A pod bears the name of one budget, so the other would guard it in vain, and count it.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{Operation, PodUnavailableBudget, TargetRef, group, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// What is wrong with what the annotations of a budget say. The texts are OpenKruise's.
pub fn annotations(budget: &PodUnavailableBudget) -> Option<String> {
    let said = |key: &str| budget.metadata.annotations.as_ref()?.get(key);
    let operations = |text: &String| text.split(',').all(|word| Operation::read(word).is_some());
    let number = |text: &String| text.parse::<i32>().is_ok();
    let bad =
        |key: &'static str, good: &dyn Fn(&String) -> bool| said(key).is_some_and(|text| !good(text)).then_some(key);
    let key = bad(names::PROTECT_OPERATIONS, &operations).or_else(|| bad(names::PROTECT_TOTAL_REPLICAS, &number))?;
    Some(format!("metadata: Internal error: annotation[{key}] is invalid"))
}

/// Which of a namespace's budgets is about pods that a new one would be about. As with OpenKruise a target is compared with targets, and a
/// selector with selectors. The text is OpenKruise's.
pub fn conflict<'a>(
    budget: &PodUnavailableBudget,
    others: impl IntoIterator<Item = &'a PodUnavailableBudget>,
) -> Option<String> {
    let own = budget.metadata.name.as_deref();
    let mut others = others.into_iter().filter(|other| other.metadata.name.as_deref() != own);
    let (field, value) = match (&budget.spec.target_ref, &budget.spec.selector) {
        (Some(target), _) => ("targetReference", serde_json::to_string(target)),
        (None, Some(selector)) => ("selector", serde_json::to_string(selector)),
        (None, None) => return None,
    };
    let other = others.find(|other| {
        let (spec, theirs) = (&budget.spec, &other.spec);
        match (&spec.target_ref, &theirs.target_ref) {
            (Some(target), Some(other)) => same(target, other),
            (None, None) => overlap(spec.selector.as_ref(), theirs.selector.as_ref()),
            _ => false,
        }
    })?;
    let name = other.metadata.name.as_deref().unwrap_or_default();
    let value = value.unwrap_or_default();
    Some(format!(
        "spec.{field}: Invalid value: {value}: pub.spec.{field} is in conflict with other PodUnavailableBudget {name}"
    ))
}

fn same(target: &TargetRef, other: &TargetRef) -> bool {
    let named = |target: &TargetRef| {
        (
            group(&target.api_version).to_owned(),
            target.kind.clone(),
            target.name.clone(),
        )
    };
    named(target) == named(other)
}

/// What a selector wants of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// One of these values.
    In(BTreeSet<String>),
    /// None of these values, or no such label.
    NotIn(BTreeSet<String>),
    /// Any value.
    Exists,
    /// No such label.
    DoesNotExist,
}

impl Wish {
    /// Whether some label, or its absence, suits both.
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::In(some), Self::In(others)) => !some.is_disjoint(others),
            (Self::In(some), Self::NotIn(not)) | (Self::NotIn(not), Self::In(some)) => !some.is_subset(not),
            (Self::DoesNotExist, Self::In(_) | Self::Exists) | (Self::In(_) | Self::Exists, Self::DoesNotExist) => {
                false
            }
            _ => true,
        }
    }
}

/// Whether two selectors speak of the same labels, and of values of each that suit both. Such as speak of different labels may select the
/// same pods by chance; that they do is not taken for granted.
fn overlap(one: Option<&LabelSelector>, other: Option<&LabelSelector>) -> bool {
    let (Some(one), Some(other)) = (one.and_then(wishes), other.and_then(wishes)) else {
        return false;
    };
    let meet = |key: &String, wishes: &Vec<Wish>| {
        let others = other.get(key).map(Vec::as_slice).unwrap_or_default();
        wishes.iter().all(|wish| others.iter().all(|other| wish.meets(other)))
    };
    one.keys().eq(other.keys()) && one.iter().all(|(key, wishes)| meet(key, wishes))
}

/// By label; None: one that cannot be read, which selects nothing.
fn wishes(selector: &LabelSelector) -> Option<BTreeMap<String, Vec<Wish>>> {
    let mut wishes = BTreeMap::<_, Vec<_>>::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        wishes
            .entry(key.clone())
            .or_default()
            .push(Wish::In([value.clone()].into()));
    }
    for expression in selector.match_expressions.iter().flatten() {
        let values = expression.values.iter().flatten().cloned().collect();
        let wish = match expression.operator.as_str() {
            "In" => Wish::In(values),
            "NotIn" => Wish::NotIn(values),
            "Exists" => Wish::Exists,
            "DoesNotExist" => Wish::DoesNotExist,
            _ => return None,
        };
        wishes.entry(expression.key.clone()).or_default().push(wish);
    }
    (!wishes.is_empty()).then_some(wishes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn budget(name: &str, spec: &Value) -> PodUnavailableBudget {
        serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
    }

    #[test]
    fn two_budgets_are_not_about_the_same_pods() {
        let target =
            |version: &str, kind: &str| json!({"targetRef": {"apiVersion": version, "kind": kind, "name": "web"}});
        let labels = |labels: Value| json!({"selector": {"matchLabels": labels}});
        let wish = |operator: &str, values: Value| json!({"selector": {"matchExpressions": [{"key": "app", "operator": operator, "values": values}]}});
        let web = labels(json!({"app": "web"}));
        for (one, other, field) in [
            (
                target("apps/v1", "Deployment"),
                target("apps/v1beta1", "Deployment"),
                Some("targetReference"),
            ),
            (target("apps/v1", "Deployment"), target("apps/v1", "StatefulSet"), None),
            (
                target("apps/v1", "StatefulSet"),
                target("apps.kruise.io/v1beta1", "StatefulSet"),
                None,
            ),
            (target("apps/v1", "Deployment"), web.clone(), None),
            (web.clone(), target("apps/v1", "Deployment"), None),
            (web.clone(), web.clone(), Some("selector")),
            (web.clone(), labels(json!({"app": "api"})), None),
            (web.clone(), labels(json!({"app": "web", "tier": "front"})), None),
            (web.clone(), wish("In", json!(["api", "web"])), Some("selector")),
            (web.clone(), wish("NotIn", json!(["api"])), Some("selector")),
            (web.clone(), wish("NotIn", json!(["api", "web"])), None),
            (web.clone(), wish("Exists", json!([])), Some("selector")),
            (web.clone(), wish("DoesNotExist", json!([])), None),
            (
                wish("NotIn", json!(["a"])),
                wish("DoesNotExist", json!([])),
                Some("selector"),
            ),
            (wish("Exists", json!([])), wish("DoesNotExist", json!([])), None),
            (
                wish("NotIn", json!(["a"])),
                wish("NotIn", json!(["b"])),
                Some("selector"),
            ),
            (web, json!({"selector": {}}), None),
        ] {
            let found = conflict(&budget("new", &one), [&budget("new", &one), &budget("old", &other)]);
            let ended = found
                .as_ref()
                .map(|text| text.ends_with(" is in conflict with other PodUnavailableBudget old"));
            assert_eq!(ended, field.map(|_| true), "{one} {other}");
            if let (Some(text), Some(field)) = (found, field) {
                assert!(text.starts_with(&format!("spec.{field}: Invalid value: {{")), "{text}");
            }
        }
    }

    #[test]
    fn annotations_can_be_read() {
        for (key, value, good) in [
            (names::PROTECT_OPERATIONS, "DELETE,RESIZE", true),
            (names::PROTECT_OPERATIONS, "DELETE,SCALE", false),
            (names::PROTECT_OPERATIONS, "", false),
            (names::PROTECT_TOTAL_REPLICAS, "12", true),
            (names::PROTECT_TOTAL_REPLICAS, "twelve", false),
        ] {
            let mut budget = budget("web", &json!({}));
            budget.metadata.annotations = Some([(key.to_owned(), value.to_owned())].into());
            let said = format!("metadata: Internal error: annotation[{key}] is invalid");
            assert_eq!(annotations(&budget), (!good).then_some(said), "{value}");
        }
    }
}
