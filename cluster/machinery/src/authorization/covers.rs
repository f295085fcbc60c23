//! Whether somebody who gives rights away has them: nobody may hand out by a role or a binding what they may not do themselves
//! (<https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>).

use std::collections::{BTreeMap, BTreeSet};

use super::decision::HeldRules;
use super::rule::PolicyRule;
use super::text::{joined, quoted, quoted_list};
use super::user::User;

/// Single rights (a verb on a resource in a group, of one name) that are looked at for one role at most. One of more is refused: its
/// lists multiply, and the largest object that is stored could keep the server busy for a day.
const RIGHTS_MAX: usize = 1 << 16;

/// Lists of so many items are compared item by item with those of each rule that is held.
const LIST_SHORT: usize = 64;

/// What cannot be given away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excess {
    /// These single rights are not held.
    Missing(Vec<PolicyRule>),
    /// Nobody can tell: there are too many.
    TooMany,
}

/// Whether `held` rules allow all that `wanted` rules do.
///
/// # Errors
/// What is not held.
pub fn covers(held: &[PolicyRule], wanted: &[PolicyRule]) -> Result<(), Excess> {
    let (mut missing, mut left) = (Vec::new(), RIGHTS_MAX);
    for rule in wanted.iter().filter(|rule| !held.iter().any(|own| includes(own, rule))) {
        left = left.checked_sub(rights(rule)).ok_or(Excess::TooMany)?;
        missing_paths(held, rule, &mut missing);
        missing_resources(held, rule, &mut missing);
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Excess::Missing(missing))
    }
}

/// How many single rights a rule is made of.
fn rights(rule: &PolicyRule) -> usize {
    let names = rule.resource_names.len().max(1);
    let products = [rule.api_groups.len(), rule.resources.len(), rule.verbs.len(), names];
    let resources = products.into_iter().fold(1, usize::saturating_mul);
    resources.saturating_add(rule.non_resource_urls.len().saturating_mul(rule.verbs.len()))
}

/// Whether one rule alone allows all that another does. Of long lists nobody knows: they are compared right by right.
fn includes(own: &PolicyRule, wanted: &PolicyRule) -> bool {
    let star = |list: &[String]| list.iter().any(|item| item == "*");
    let all =
        |list: &[String], one: &dyn Fn(&str) -> bool| list.len() <= LIST_SHORT && list.iter().all(|item| one(item));
    let names = &wanted.resource_names;
    (star(&own.verbs) || all(&wanted.verbs, &|verb| own.has_verb(verb)))
        && (star(&own.api_groups) || all(&wanted.api_groups, &|group| own.has_group(group)))
        && (star(&own.resources) || all(&wanted.resources, &|resource| own.covers_resource(resource)))
        && (own.resource_names.is_empty() || (!names.is_empty() && all(names, &|name| own.covers_name(Some(name)))))
        && (star(&own.non_resource_urls) || all(&wanted.non_resource_urls, &|url| own.covers_url(url)))
}

fn missing_paths(held: &[PolicyRule], rule: &PolicyRule, missing: &mut Vec<PolicyRule>) {
    for url in &rule.non_resource_urls {
        let about: Vec<&PolicyRule> = held
            .iter()
            .filter(|own| own.covers_url(url) && own.covers_name(None))
            .collect();
        for verb in rule.verbs.iter().filter(|verb| !has_verb(&about, verb)) {
            missing.push(PolicyRule {
                verbs: vec![verb.clone()],
                non_resource_urls: vec![url.clone()],
                ..PolicyRule::default()
            });
        }
    }
}

fn has_verb(about: &[&PolicyRule], verb: &str) -> bool {
    about.iter().any(|own| own.has_verb(verb))
}

fn missing_resources(held: &[PolicyRule], rule: &PolicyRule, missing: &mut Vec<PolicyRule>) {
    // No names are all names.
    let names: Vec<Option<&String>> = match rule.resource_names.as_slice() {
        [] => vec![None],
        some => some.iter().map(Some).collect(),
    };
    for group in &rule.api_groups {
        let of_group: Vec<&PolicyRule> = held.iter().filter(|own| own.has_group(group)).collect();
        for resource in &rule.resources {
            let about = of_group.iter().copied().filter(|own| own.covers_resource(resource));
            let about: Vec<&PolicyRule> = about.collect();
            for verb in &rule.verbs {
                let with_verb: Vec<&PolicyRule> = about.iter().copied().filter(|own| own.has_verb(verb)).collect();
                for name in &names {
                    let name = name.map(String::as_str);
                    if !with_verb.iter().any(|own| own.covers_name(name)) {
                        missing.push(PolicyRule {
                            verbs: vec![verb.clone()],
                            api_groups: vec![group.clone()],
                            resources: vec![resource.clone()],
                            resource_names: name.map(str::to_owned).into_iter().collect(),
                            ..PolicyRule::default()
                        });
                    }
                }
            }
        }
    }
}

/// Rights to the same objects in one rule.
fn compact(rights: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut paths = Vec::new();
    let mut resources: BTreeMap<[Vec<String>; 3], PolicyRule> = BTreeMap::new();
    for right in rights {
        if !right.non_resource_urls.is_empty() {
            paths.push(right);
            continue;
        }
        let key = [&right.api_groups, &right.resources, &right.resource_names].map(Vec::clone);
        match resources.get_mut(&key) {
            Some(rule) => rule.verbs.extend(right.verbs),
            None => drop(resources.insert(key, right)),
        }
    }
    paths.extend(resources.into_values());
    paths
}

/// Whether somebody holds the rules that they are about to give away.
///
/// # Errors
/// The sentence that says what is missing, in Kubernetes' words.
pub fn confirm(user: &User, held: &HeldRules, wanted: &[PolicyRule]) -> Result<(), String> {
    let who = format!("user {} (groups={})", quoted(&user.name), quoted_list(&user.groups));
    let what = match covers(&held.rules, wanted) {
        Ok(()) => return Ok(()),
        Err(Excess::TooMany) => {
            return Err(format!(
                "{who} is attempting to grant more than {RIGHTS_MAX} single permissions at once: split the role"
            ));
        }
        Err(Excess::Missing(missing)) => missing,
    };
    let lines: BTreeSet<String> = compact(what).iter().map(PolicyRule::text).collect();
    let lines: Vec<String> = lines.into_iter().collect();
    let list = lines.join("\n");
    let mut message = format!("{who} is attempting to grant RBAC permissions not currently held:\n{list}");
    if !held.errors.is_empty() {
        message += &format!("; resolution errors: [{}]", joined(&held.errors));
    }
    Err(message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::tests::{any_rule, attributes, questions, rule};
    use super::*;

    #[test]
    fn nobody_gives_away_what_they_have_not() {
        let held = |rules: Vec<Value>| HeldRules {
            rules: rules.iter().map(PolicyRule::read).collect(),
            ..HeldRules::default()
        };
        let wanted = |rules: Vec<Value>| rules.iter().map(PolicyRule::read).collect::<Vec<_>>();
        let named = |names: &[&str]| json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": names});
        let path = |path: &str| json!({"verbs": ["get"], "nonResourceURLs": [path]});
        let cases = [
            (
                vec![rule(&["get", "list"], &[""], &["pods"])],
                vec![rule(&["get"], &[""], &["pods"])],
                true,
            ),
            (
                vec![rule(&["get"], &[""], &["pods"])],
                vec![rule(&["get", "list"], &[""], &["pods"])],
                false,
            ),
            // Together.
            (
                vec![
                    rule(&["get"], &[""], &["pods"]),
                    rule(&["list"], &["", "apps"], &["pods"]),
                ],
                vec![rule(&["get", "list"], &[""], &["pods"])],
                true,
            ),
            (
                vec![rule(&["*"], &["*"], &["*"])],
                vec![rule(&["*"], &["*"], &["*", "a/b"])],
                true,
            ),
            (
                vec![rule(&["get"], &["*"], &["*"])],
                vec![rule(&["*"], &["*"], &["*"])],
                false,
            ),
            (
                vec![rule(&["get"], &["*"], &["*/scale"])],
                vec![rule(&["get"], &["apps"], &["deployments/scale"])],
                true,
            ),
            (
                vec![rule(&["get"], &["*"], &["*/scale"])],
                vec![rule(&["get"], &["apps"], &["deployments"])],
                false,
            ),
            (vec![named(&["a", "b"])], vec![named(&["a"])], true),
            (vec![named(&["a"])], vec![named(&["a", "b"])], false),
            (vec![named(&["a"])], vec![named(&[])], false),
            (vec![named(&[])], vec![named(&["a"])], true),
            (vec![path("/healthz/*")], vec![path("/healthz/a")], true),
            (vec![path("/healthz")], vec![path("/healthz/*")], false),
            (vec![path("*")], vec![path("/anything/*")], true),
            (vec![rule(&["*"], &["*"], &["*"])], vec![path("/healthz")], false),
            (vec![], vec![json!({"verbs": []})], true),
        ];
        for (have, give, expected) in cases {
            let message = format!("{have:?} {give:?}");
            assert_eq!(
                confirm(&User::named("u", &[]), &held(have), &wanted(give)).is_ok(),
                expected,
                "{message}"
            );
        }
        let give = wanted(vec![
            rule(&["get", "list"], &["", "apps"], &["pods"]),
            path("/x"),
            named(&["a"]),
        ]);
        let sentence = confirm(
            &User::named("u", &["g", "h"]),
            &held(vec![rule(&["get"], &[""], &["pods"])]),
            &give,
        );
        assert_eq!(
            sentence,
            Err(
                "user \"u\" (groups=[\"g\" \"h\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], ResourceNames:[\"a\"], Verbs:[\"get\"]}\n\
             {APIGroups:[\"apps\"], Resources:[\"pods\"], Verbs:[\"get\" \"list\"]}\n\
             {NonResourceURLs:[\"/x\"], Verbs:[\"get\"]}"
                    .into()
            )
        );
    }

    #[test]
    fn a_role_with_too_many_rights_is_refused_at_once() {
        let many: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
        let huge = PolicyRule {
            verbs: many.clone(),
            api_groups: many.clone(),
            resources: many,
            ..PolicyRule::default()
        };
        let held = [PolicyRule::read(&rule(&["get"], &["*"], &["*"]))];
        assert!(covers(&held, std::slice::from_ref(&huge)).is_err());
        let all = [PolicyRule::read(&rule(&["*"], &["*"], &["*"]))];
        assert_eq!(covers(&all, &[huge]), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Who may give rules away may do all that the rules allow.
        #[test]
        fn what_is_covered_is_held(held in prop::collection::vec(any_rule(), 0..4), wanted in any_rule()) {
            let (held, wanted): (Vec<_>, _) = (held.iter().map(PolicyRule::read).collect(), PolicyRule::read(&wanted));
            if covers(&held, std::slice::from_ref(&wanted)).is_ok() {
                let user = User::default();
                for asked in questions() {
                    let attributes = attributes(&user, &asked);
                    prop_assert!(!wanted.allows(&attributes) || held.iter().any(|own| own.allows(&attributes)), "{asked}");
                }
            }
        }
    }
}
