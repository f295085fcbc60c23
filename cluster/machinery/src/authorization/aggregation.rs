//! ClusterRoles that are put together of others (`aggregationRule`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::rule::PolicyRule;
use crate::selector::LabelSelector;

/// The selectors of the roles that a ClusterRole gathers; None if it gathers none.
fn selectors(role: &Value) -> Option<Vec<LabelSelector>> {
    let rule = role.get("aggregationRule").filter(|rule| rule.is_object())?;
    let selectors = rule["clusterRoleSelectors"].as_array().into_iter().flatten();
    // One that cannot be read leaves the role as it is, as upstream.
    selectors.map(|one| LabelSelector::from_value(one).ok()).collect()
}

/// The ClusterRoles (by name) whose rules are not what they gather, with the rules that they should have.
pub fn outdated(roles: &BTreeMap<String, Value>) -> Vec<(String, Vec<PolicyRule>)> {
    let mut outdated = Vec::new();
    for (name, role) in roles {
        let Some(selectors) = selectors(role) else { continue };
        let (mut wanted, mut seen) = (Vec::new(), BTreeSet::new());
        for selector in selectors {
            let others = roles.iter().filter(|(other, _)| *other != name);
            for (_, other) in others.filter(|(_, other)| selector.matches(other)) {
                for rule in PolicyRule::read_all(other) {
                    if seen.insert(rule.clone()) {
                        wanted.push(rule);
                    }
                }
            }
        }
        // As sets: two roles that gather each other would otherwise never agree about the order.
        let present: BTreeSet<PolicyRule> = PolicyRule::read_all(role).into_iter().collect();
        if present != seen {
            outdated.push((name.clone(), wanted));
        }
    }
    outdated
}

/// Rules as an object has them.
pub fn rules_value(rules: &[PolicyRule]) -> Value {
    rules.iter().map(PolicyRule::to_value).collect()
}

#[cfg(test)]
mod tests {
    use super::super::bootstrap::objects;
    use super::super::tests::{allowed, binding, subject};
    use super::super::{Roles, User};
    use super::*;

    #[test]
    fn roles_gather_the_rules_of_others() {
        let mut all: BTreeMap<String, Value> = objects()
            .unwrap()
            .into_iter()
            .filter(|object| object["kind"] == "ClusterRole")
            .map(|object| (object["metadata"]["name"].as_str().unwrap().to_owned(), object))
            .collect();
        let mut rounds = 0;
        loop {
            let outdated = outdated(&all);
            if outdated.is_empty() {
                break;
            }
            rounds += 1;
            assert!(rounds < 5, "{outdated:?}");
            for (name, rules) in outdated {
                all.get_mut(&name).unwrap()["rules"] = rules_value(&rules);
            }
        }
        let mut roles = Roles::default();
        all.values().for_each(|object| roles.put(object));
        for name in ["view", "edit", "admin"] {
            roles.put(&binding("a", name, "ClusterRole", name, &[subject("User", name)]));
        }
        let cases = [
            ("view", "list apps/deployments a", true),
            ("view", "get /secrets a s", false),
            ("view", "create /pods a", false),
            ("edit", "create /pods a", true),
            ("edit", "update apps/deployments/scale a d", true),
            ("edit", "create rbac.authorization.k8s.io/roles a", false),
            ("admin", "create rbac.authorization.k8s.io/roles a", true),
            ("admin", "list apps/deployments a", true),
            ("admin", "list apps/deployments b", false),
        ];
        for (user, asked, expected) in cases {
            assert_eq!(
                allowed(&roles, &User::named(user, &[]), asked),
                expected,
                "{user} {asked}"
            );
        }
    }
}
