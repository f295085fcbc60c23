//! All roles and bindings that are stored, indexed by whom they are for.
//!
//! A request costs a look at the bindings of its user and of each of the user's groups, however many others there are.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::attributes::Attributes;
use super::decision::{Authorizer, Decision, HeldRules};
use super::kind::{CLUSTER_ROLE, CLUSTER_ROLE_BINDING, GROUP, ROLE, ROLE_BINDING};
use super::rule::PolicyRule;
use super::subject::{RoleRef, Subject, SubjectKind};
use super::text::{joined, quoted};
use super::user::User;

/// Rules by name of their role.
type Named = BTreeMap<String, Vec<PolicyRule>>;

/// By name of a user or group: the bindings that name it, and at which place in the list of subjects.
type Index = BTreeMap<String, BTreeMap<String, usize>>;

/// All roles and bindings.
#[derive(Clone, Debug, Default)]
pub struct Roles {
    cluster_roles: Named,
    /// By namespace.
    roles: BTreeMap<String, Named>,
    /// By namespace; those of the whole cluster are those of the empty one.
    bindings: BTreeMap<String, Bindings>,
}

/// The bindings of one namespace.
#[derive(Clone, Debug, Default)]
struct Bindings {
    all: BTreeMap<String, Binding>,
    users: Index,
    groups: Index,
}

#[derive(Clone, Debug)]
struct Binding {
    role: RoleRef,
    subjects: Vec<Subject>,
}

/// What is found on the way through somebody's bindings.
enum Found<'a> {
    Rule(&'a PolicyRule, Source<'a>),
    Error(String),
}

/// Where a rule comes from.
#[derive(Clone, Copy)]
struct Source<'a> {
    namespace: &'a str,
    name: &'a str,
    binding: &'a Binding,
    /// Place of the subject.
    place: usize,
}

impl Roles {
    /// Takes in a stored Role, ClusterRole or a binding of one, for the first time or once more.
    pub fn put(&mut self, object: &Value) {
        let Some((namespace, name)) = place(object) else { return };
        match object["kind"].as_str() {
            Some(CLUSTER_ROLE) => drop(self.cluster_roles.insert(name, PolicyRule::read_all(object))),
            Some(ROLE) => {
                let roles = self.roles.entry(namespace).or_default();
                roles.insert(name, PolicyRule::read_all(object));
            }
            Some(CLUSTER_ROLE_BINDING | ROLE_BINDING) => {
                let bindings = self.bindings.entry(namespace.clone()).or_default();
                bindings.remove(&name, &namespace);
                bindings.put(name, &namespace, object);
            }
            _ => {}
        }
    }

    /// Takes out what is gone; `object` is its last form.
    pub fn remove(&mut self, object: &Value) {
        let Some((namespace, name)) = place(object) else { return };
        match object["kind"].as_str() {
            Some(CLUSTER_ROLE) => drop(self.cluster_roles.remove(&name)),
            Some(ROLE) => {
                if let Some(roles) = self.roles.get_mut(&namespace) {
                    roles.remove(&name);
                    if roles.is_empty() {
                        self.roles.remove(&namespace);
                    }
                }
            }
            Some(CLUSTER_ROLE_BINDING | ROLE_BINDING) => {
                if let Some(bindings) = self.bindings.get_mut(&namespace) {
                    bindings.remove(&name, &namespace);
                    if bindings.all.is_empty() {
                        self.bindings.remove(&namespace);
                    }
                }
            }
            _ => {}
        }
    }

    /// The rules of the role that a binding in a namespace (empty: of the cluster) refers to.
    ///
    /// # Errors
    /// That there is none.
    pub fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<&[PolicyRule], String> {
        let (found, what) = match role.kind.as_str() {
            CLUSTER_ROLE => (self.cluster_roles.get(&role.name), "clusterrole"),
            ROLE => {
                let roles = self.roles.get(namespace);
                (roles.and_then(|roles| roles.get(&role.name)), "role")
            }
            kind => return Err(format!("unsupported role reference kind: {}", quoted(kind))),
        };
        let missing = || format!("{what}.{} {} not found", GROUP, quoted(&role.name));
        found.map(Vec::as_slice).ok_or_else(missing)
    }

    /// Shows every rule that holds for somebody in a namespace, and what is in the way of finding them, until `seen` has had enough.
    fn visit<'a>(&'a self, user: &User, namespace: &str, seen: &mut dyn FnMut(Found<'a>) -> bool) {
        let local = if namespace.is_empty() { None } else { Some(namespace) };
        for scope in std::iter::once("").chain(local) {
            let Some((scope, bindings)) = self.bindings.get_key_value(scope) else {
                continue;
            };
            if !self.visit_bindings(scope, bindings, user, seen) {
                return;
            }
        }
    }

    fn visit_bindings<'a>(
        &'a self,
        namespace: &'a str,
        bindings: &'a Bindings,
        user: &User,
        seen: &mut dyn FnMut(Found<'a>) -> bool,
    ) -> bool {
        for (name, place) in bindings.of(user).flatten() {
            let Some(binding) = bindings.all.get(name) else {
                continue;
            };
            let source = Source {
                namespace,
                name,
                binding,
                place: *place,
            };
            match self.rules_of(&binding.role, namespace) {
                Err(error) => {
                    if !seen(Found::Error(error)) {
                        return false;
                    }
                }
                Ok(rules) => {
                    for rule in rules {
                        if !seen(Found::Rule(rule, source)) {
                            return false;
                        }
                    }
                }
            }
        }
        true
    }
}

impl Authorizer for Roles {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        let (mut errors, mut allowed) = (Vec::new(), None);
        self.visit(asked.user, asked.namespace, &mut |found| {
            match found {
                Found::Rule(rule, source) if rule.allows(asked) => allowed = Some(source.text(self, asked.user)),
                Found::Rule(..) => {}
                Found::Error(error) => errors.push(error),
            }
            allowed.is_none()
        });
        match allowed {
            Some(source) => Decision::Allow(format!("RBAC: allowed by {source}")),
            None if errors.is_empty() => Decision::NoOpinion(String::new()),
            None => Decision::NoOpinion(format!("RBAC: {}", joined(&errors))),
        }
    }

    fn rules(&self, user: &User, namespace: &str) -> HeldRules {
        let (mut held, mut seen) = (HeldRules::default(), BTreeSet::new());
        self.visit(user, namespace, &mut |found| {
            match found {
                // A binding that names a user in several ways is met as often, and counts once.
                Found::Rule(rule, source) => {
                    let which = (source.namespace, source.name, std::ptr::from_ref(rule));
                    if seen.insert(which) {
                        held.rules.push(rule.clone());
                    }
                }
                Found::Error(error) => held.errors.push(error),
            }
            true
        });
        held
    }
}

impl Bindings {
    fn put(&mut self, name: String, namespace: &str, object: &Value) {
        let subjects = object["subjects"].as_array().into_iter().flatten();
        let subjects: Vec<Subject> = subjects.filter_map(Subject::read).collect();
        for (at, subject) in subjects.iter().enumerate() {
            let (index, key) = self.index(subject, namespace);
            if let Some(key) = key {
                index.entry(key).or_default().entry(name.clone()).or_insert(at);
            }
        }
        let role = RoleRef::of(object);
        self.all.insert(name, Binding { role, subjects });
    }

    fn remove(&mut self, name: &str, namespace: &str) {
        let Some(binding) = self.all.remove(name) else { return };
        for subject in &binding.subjects {
            let (index, Some(key)) = self.index(subject, namespace) else {
                continue;
            };
            if let Some(bindings) = index.get_mut(&key) {
                bindings.remove(name);
                if bindings.is_empty() {
                    index.remove(&key);
                }
            }
        }
    }

    fn index(&mut self, subject: &Subject, namespace: &str) -> (&mut Index, Option<String>) {
        match subject.kind {
            SubjectKind::Group => (&mut self.groups, Some(subject.name.clone())),
            _ => (&mut self.users, subject.user(namespace)),
        }
    }

    /// The bindings that name somebody, and those that name each of the groups.
    fn of<'a>(&'a self, user: &User) -> impl Iterator<Item = &'a BTreeMap<String, usize>> {
        let own = self.users.get(&user.name);
        let groups = user.groups.iter().filter_map(|group| self.groups.get(group));
        own.into_iter().chain(groups)
    }
}

impl Source<'_> {
    /// For messages. Of several subjects that stand for somebody the first one is named.
    fn text(&self, roles: &Roles, user: &User) -> String {
        let bindings = roles.bindings.get(self.namespace).into_iter();
        let indexes = bindings.flat_map(|bindings| bindings.of(user));
        let first = indexes.filter_map(|index| index.get(self.name)).min();
        let first = *first.unwrap_or(&self.place);
        let subject = self.binding.subjects.get(first);
        let subject = subject.map_or_else(String::new, |subject| subject.text(self.namespace));
        let (what, name) = if self.namespace.is_empty() {
            (CLUSTER_ROLE_BINDING, self.name.to_owned())
        } else {
            (ROLE_BINDING, format!("{}/{}", self.name, self.namespace))
        };
        let role = &self.binding.role;
        let (name, role_name) = (quoted(&name), quoted(&role.name));
        format!("{what} {name} of {} {role_name} to {subject}", role.kind)
    }
}

/// Namespace and name of an object. The empty namespace is the whole cluster's, and only for the kinds that are the cluster's.
fn place(object: &Value) -> Option<(String, String)> {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let of_cluster = matches!(object["kind"].as_str(), Some(CLUSTER_ROLE | CLUSTER_ROLE_BINDING));
    let namespace = if of_cluster { String::new() } else { text("namespace") };
    (of_cluster || !namespace.is_empty()).then(|| (namespace, text("name")))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{cluster_binding, rule, subject};
    use super::*;

    /// The cost of a request is that of its own bindings: of a thousand others none is looked at.
    #[test]
    fn bindings_of_others_cost_nothing() {
        let mut roles = Roles::default();
        let read = rule(&["get"], &[""], &["pods"]);
        let role = serde_json::json!({"kind": "ClusterRole", "metadata": {"name": "r"}, "rules": [read]});
        roles.put(&role);
        for number in 0..1000 {
            let name = format!("b{number}");
            roles.put(&cluster_binding(
                &name,
                "r",
                &[subject("User", &name), subject("Group", &name)],
            ));
        }
        let mut seen = 0;
        let user = User::named("b7", &["b8", "system:authenticated"]);
        roles.visit(&user, "anywhere", &mut |_| {
            seen += 1;
            true
        });
        assert_eq!(seen, 2);
    }
}
