use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

pub(super) fn rule(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({"verbs": verbs, "apiGroups": groups, "resources": resources})
}

fn cluster_role(name: &str, rules: &[Value]) -> Value {
    json!({"kind": "ClusterRole", "metadata": {"name": name}, "rules": rules})
}

fn role(namespace: &str, name: &str, rules: &[Value]) -> Value {
    json!({"kind": "Role", "metadata": {"namespace": namespace, "name": name}, "rules": rules})
}

pub(super) fn subject(kind: &str, name: &str) -> Value {
    json!({"kind": kind, "name": name})
}

pub(super) fn cluster_binding(name: &str, role: &str, subjects: &[Value]) -> Value {
    json!({"kind": "ClusterRoleBinding", "metadata": {"name": name}, "subjects": subjects,
        "roleRef": {"kind": "ClusterRole", "name": role}})
}

pub(super) fn binding(namespace: &str, name: &str, kind: &str, role: &str, subjects: &[Value]) -> Value {
    json!({"kind": "RoleBinding", "metadata": {"namespace": namespace, "name": name}, "subjects": subjects,
        "roleRef": {"kind": kind, "name": role}})
}

fn roles(objects: &[Value]) -> Roles {
    let mut roles = Roles::default();
    objects.iter().for_each(|object| roles.put(object));
    roles
}

/// `verb group/resource[/subresource] [namespace [name]]`, or `verb path:/path`.
pub(super) fn attributes<'a>(user: &'a User, asked: &'a str) -> Attributes<'a> {
    let mut words = asked.split(' ');
    let mut word = || words.next().unwrap_or_default();
    let (verb, what, namespace, name) = (word(), word(), word(), word());
    if let Some(path) = what.strip_prefix("path:") {
        return Attributes::path(user, verb, path);
    }
    let mut parts = what.split('/');
    let mut part = || parts.next().unwrap_or_default();
    let (group, resource, subresource) = (part(), part(), part());
    Attributes {
        subresource,
        namespace,
        name,
        ..Attributes::resource(user, verb, group, resource)
    }
}

pub(super) fn allowed(roles: &Roles, user: &User, asked: &str) -> bool {
    matches!(roles.authorize(&attributes(user, asked)), Decision::Allow(_))
}

#[test]
fn rules_allow_what_they_name() {
    let named = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"]});
    let cases = [
        (rule(&["get"], &[""], &["pods"]), "get /pods a p", true),
        (rule(&["get"], &[""], &["pods"]), "list /pods a", false),
        (rule(&["get"], &[""], &["pods"]), "get apps/pods a p", false),
        (rule(&["get"], &[""], &["pods"]), "get /pods/log a p", false),
        (rule(&["get"], &[""], &["pods/log"]), "get /pods/log a p", true),
        (rule(&["get"], &[""], &["pods/log"]), "get /pods a p", false),
        (rule(&["get"], &[""], &["pods/*"]), "get /pods/log a p", false),
        (
            rule(&["get"], &["*"], &["*/scale"]),
            "get apps/deployments/scale a d",
            true,
        ),
        (
            rule(&["get"], &["*"], &["*/scale"]),
            "get apps/deployments/status a d",
            false,
        ),
        (rule(&["get"], &["*"], &["*/scale"]), "get apps/deployments a d", false),
        (rule(&["*"], &["*"], &["*"]), "delete apps/deployments/status a d", true),
        (rule(&["*"], &["apps"], &["*"]), "delete batch/jobs a d", false),
        (named.clone(), "get /secrets a one", true),
        (named.clone(), "get /secrets a two", false),
        (named, "get /secrets a", false),
        (
            json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}),
            "get path:/healthz",
            true,
        ),
        (
            json!({"verbs": ["get"], "nonResourceURLs": ["/healthz"]}),
            "get path:/healthz/x",
            false,
        ),
        (
            json!({"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}),
            "get path:/healthz/x",
            true,
        ),
        (
            json!({"verbs": ["get"], "nonResourceURLs": ["/healthz/*"]}),
            "get path:/healthz",
            false,
        ),
        (
            json!({"verbs": ["get"], "nonResourceURLs": ["/h*z"]}),
            "get path:/healthz",
            false,
        ),
        (
            json!({"verbs": ["*"], "nonResourceURLs": ["*"]}),
            "post path:/anything",
            true,
        ),
        (
            json!({"verbs": "get", "apiGroups": [""], "resources": ["pods"]}),
            "get /pods a p",
            false,
        ),
    ];
    for (rule, asked, expected) in cases {
        let all = [
            cluster_role("r", std::slice::from_ref(&rule)),
            cluster_binding("b", "r", &[subject("User", "u")]),
        ];
        assert_eq!(
            allowed(&roles(&all), &User::named("u", &[]), asked),
            expected,
            "{asked}: {rule}"
        );
    }
}

#[test]
fn bindings_hold_for_their_subjects_where_they_are() {
    let read = rule(&["get"], &[""], &["pods"]);
    let here = json!({"kind": "ServiceAccount", "name": "robot"});
    let there = json!({"kind": "ServiceAccount", "name": "robot", "namespace": "other"});
    let all = [
        cluster_role("reader", std::slice::from_ref(&read)),
        role("a", "reader", &[read]),
        binding("a", "one", "Role", "reader", &[subject("User", "u"), here]),
        binding("b", "two", "ClusterRole", "reader", &[subject("Group", "g"), there]),
        cluster_binding(
            "three",
            "reader",
            &[subject("Group", "everywhere"), subject("ServiceAccount", "robot")],
        ),
        binding("b", "four", "Role", "reader", &[subject("User", "u")]),
        // Of no namespace, which only the store's damage could make: not the whole cluster's.
        json!({"kind": "RoleBinding", "metadata": {"name": "x"}, "subjects": [subject("User", "z")],
            "roleRef": {"kind": "ClusterRole", "name": "reader"}}),
    ];
    let roles = roles(&all);
    let (u, g) = (User::named("u", &[]), User::named("v", &["h", "g"]));
    let robots = [
        User::service_account("a", "robot"),
        User::service_account("other", "robot"),
    ];
    let cases = [
        (&u, "a", true),
        (&u, "b", false),
        (&u, "", false),
        (&g, "a", false),
        (&g, "b", true),
        (&robots[0], "a", true),
        (&robots[0], "b", false),
        (&robots[1], "b", true),
        (&robots[1], "a", false),
        (&User::named("w", &["everywhere"]), "anything", true),
        (&User::named("w", &["everywhere"]), "", true),
        (&User::named("z", &[]), "", false),
    ];
    for (user, namespace, expected) in cases {
        let asked = format!("get /pods {namespace} p");
        assert_eq!(allowed(&roles, user, &asked), expected, "{} {asked}", user.name);
    }
    let missing = Attributes {
        namespace: "b",
        ..Attributes::resource(&u, "get", "", "pods")
    };
    assert_eq!(
        roles.authorize(&missing),
        Decision::NoOpinion("RBAC: role.rbac.authorization.k8s.io \"reader\" not found".into())
    );
    let local = Attributes {
        namespace: "a",
        ..Attributes::resource(&robots[0], "get", "", "pods")
    };
    assert_eq!(
        roles.authorize(&local),
        Decision::Allow(
            "RBAC: allowed by RoleBinding \"one/a\" of Role \"reader\" to ServiceAccount \"robot/a\"".into()
        )
    );
}

#[test]
fn what_is_gone_allows_nothing() {
    let all = [
        cluster_role("r", &[rule(&["get"], &[""], &["pods"])]),
        cluster_binding("b", "r", &[subject("User", "u"), subject("Group", "g")]),
    ];
    let user = User::named("u", &["g"]);
    for gone in &all {
        let mut roles = roles(&all);
        roles.remove(gone);
        assert!(!allowed(&roles, &user, "get /pods a p"), "{gone}");
    }
    let mut changed = roles(&all);
    changed.put(&cluster_binding("b", "r", &[subject("User", "v")]));
    assert!(!allowed(&changed, &user, "get /pods a p"));
    assert!(allowed(&changed, &User::named("v", &[]), "get /pods a p"));
    changed.put(&cluster_role("r", &[]));
    assert!(!allowed(&changed, &User::named("v", &[]), "get /pods a p"));
}

#[test]
fn texts_are_quoted_as_in_go() {
    let cases = [
        ("a", "\"a\""),
        ("a\"b\\", "\"a\\\"b\\\\\""),
        ("it's", "\"it's\""),
        ("\n\u{1}\u{7f}", "\"\\n\\x01\\x7f\""),
        ("é世\u{200b}", "\"é世\\u200b\""),
    ];
    for (text, expected) in cases {
        assert_eq!(quoted(text), expected);
    }
}

pub(super) fn any_rule() -> impl Strategy<Value = Value> {
    let some = |words: Vec<&'static str>| prop::collection::vec(prop::sample::select(words), 0..3);
    let verbs = some(vec!["get", "list", "*"]);
    let groups = some(vec!["", "apps", "*"]);
    let resources = some(vec!["pods", "pods/log", "*/log", "*"]);
    let names = prop::collection::vec(prop::sample::select(vec!["p", "q"]), 0..2);
    (verbs, groups, resources, names).prop_map(|(verbs, groups, resources, names)| {
        json!({"verbs": verbs, "apiGroups": groups, "resources": resources, "resourceNames": names})
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    let name = || prop::sample::select(vec!["x", "y"]);
    let subjects = || {
        let kinds = prop::sample::select(vec!["User", "Group"]);
        prop::collection::vec((kinds, name()).prop_map(|(kind, name)| subject(kind, name)), 0..3)
    };
    let rules = || prop::collection::vec(any_rule(), 0..3);
    prop_oneof![
        (name(), rules()).prop_map(|(name, rules)| cluster_role(name, &rules)),
        (name(), name(), rules()).prop_map(|(namespace, name, rules)| role(namespace, name, &rules)),
        (name(), name(), subjects()).prop_map(|(name, role, subjects)| cluster_binding(name, role, &subjects)),
        (
            name(),
            name(),
            name(),
            subjects(),
            prop::sample::select(vec!["Role", "ClusterRole"])
        )
            .prop_map(|(namespace, name, role, subjects, kind)| binding(namespace, name, kind, role, &subjects)),
    ]
}

/// Everything that can be asked in the small world of the properties.
pub(super) fn questions() -> Vec<String> {
    let mut all = Vec::new();
    for verb in ["get", "list"] {
        for what in ["/pods", "/pods/log", "apps/pods", "/secrets"] {
            for namespace in ["", "x", "y"] {
                for name in ["", "p", "q"] {
                    all.push(format!("{verb} {what} {namespace} {name}"));
                }
            }
        }
    }
    all
}

fn answers(roles: &Roles, user: &User) -> Vec<bool> {
    questions().iter().map(|asked| allowed(roles, user, asked)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A further binding or rule never takes a right away, and taking it back gives what was before.
    #[test]
    fn rights_only_add_up(objects in prop::collection::vec(any_object(), 0..8), more in any_object()) {
        let user = User::named("x", &["x", "y"]);
        let mut all = roles(&objects);
        let mut fresh = more;
        fresh["metadata"]["name"] = "fresh".into();
        let before = answers(&all, &user);
        all.put(&fresh);
        let with = answers(&all, &user);
        for (asked, (before, with)) in questions().iter().zip(before.iter().zip(&with)) {
            prop_assert!(*with || !before, "{asked}: {fresh}");
        }
        all.remove(&fresh);
        prop_assert_eq!(answers(&all, &user), before);
    }

    /// What the index says is what comes out of looking at each binding anew, whatever was written and removed before.
    #[test]
    fn the_index_is_that_of_what_is_stored(writes in prop::collection::vec((any_object(), any::<bool>()), 0..12)) {
        let mut kept = Roles::default();
        let mut stored: BTreeMap<String, Value> = BTreeMap::new();
        for (object, removed) in &writes {
            let key = format!("{} {} {}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"]);
            if *removed {
                if let Some(last) = stored.remove(&key) {
                    kept.remove(&last);
                }
            } else {
                kept.put(object);
                stored.insert(key, object.clone());
            }
        }
        let fresh = roles(&stored.into_values().collect::<Vec<_>>());
        for user in [User::named("x", &["y"]), User::named("y", &[])] {
            prop_assert_eq!(answers(&kept, &user), answers(&fresh, &user));
        }
    }
}
