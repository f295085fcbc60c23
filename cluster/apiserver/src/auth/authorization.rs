//! Whether a request may go on: several who decide, asked one after the other.

use std::sync::Arc;

use afloat_machinery::authorization::{Attributes, Authorizer, Decision, HeldRules, MASTERS, RoleRef, Roles, User};
use afloat_machinery::authorization::{PolicyRule, covers};

use crate::auth::nodes::{ByNodes, NodeAuthorizer};
use crate::follow::Followed;
use crate::wire::status::Status;

/// All who decide.
pub(crate) struct Authorization {
    /// The first who allows or denies has the last word.
    chain: Vec<Box<dyn Authorizer>>,
    roles: Arc<Followed<Roles>>,
    nodes: Arc<NodeAuthorizer>,
}

/// Allows everything to members of `system:masters`, whatever is stored.
struct Masters;

impl Authorizer for Masters {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        if asked.user.is_in(MASTERS) {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        }
    }

    fn rules(&self, _user: &User, _namespace: &str) -> HeldRules {
        // Their rules are those of the role `cluster-admin`, which every cluster binds them to.
        HeldRules::default()
    }
}

/// Decides by the roles and bindings that are stored.
struct ByRoles(Arc<Followed<Roles>>);

impl Authorizer for ByRoles {
    fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        self.0.with(|roles| roles.authorize(asked))
    }

    fn rules(&self, user: &User, namespace: &str) -> HeldRules {
        self.0.with(|roles| roles.rules(user, namespace))
    }
}

impl Authorization {
    /// Members of `system:masters` may do everything, nodes what their pods need; the others what the roles allow that are bound to them.
    pub(crate) fn new(nodes: NodeAuthorizer, roles: Arc<Followed<Roles>>) -> Self {
        let by_roles = ByRoles(Arc::clone(&roles));
        let nodes = Arc::new(nodes);
        let by_nodes = Box::new(ByNodes(Arc::clone(&nodes)));
        let chain: Vec<Box<dyn Authorizer>> = vec![Box::new(Masters), by_nodes, Box::new(by_roles)];
        Self { chain, roles, nodes }
    }

    /// Returns when questions about a user are answered at once.
    pub(crate) async fn prepare(&self, user: &User) {
        self.nodes.prepare(user).await;
    }

    /// What comes out of asking all: the first word that is final, or what was in everybody's way.
    pub(crate) fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for one in &self.chain {
            match one.authorize(asked) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                last => return last,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    /// Whether it is allowed.
    pub(crate) fn allows(&self, asked: &Attributes<'_>) -> bool {
        matches!(self.decide(asked), Decision::Allow(_))
    }

    /// Lets a request go on.
    ///
    /// # Errors
    /// 403 if it may not.
    pub(crate) fn require(&self, asked: &Attributes<'_>) -> Result<(), Status> {
        match self.decide(asked) {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(Status::not_authorized(asked, &reason)),
        }
    }

    /// The rules that hold for somebody in a namespace.
    pub(crate) fn rules(&self, user: &User, namespace: &str) -> HeldRules {
        let mut all = HeldRules::default();
        for one in &self.chain {
            let held = one.rules(user, namespace);
            all.rules.extend(held.rules);
            all.errors.extend(held.errors);
            all.incomplete |= held.incomplete;
        }
        all
    }

    /// The rules of the role that a binding refers to.
    ///
    /// # Errors
    /// That there is none.
    pub(crate) fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<Vec<PolicyRule>, String> {
        self.roles
            .with(|roles| roles.rules_of(role, namespace).map(<[PolicyRule]>::to_vec))
    }

    /// Whether somebody holds the rules that they are about to give away, by roles.
    ///
    /// # Errors
    /// The sentence that says what is missing.
    pub(crate) fn confirm(&self, user: &User, namespace: &str, rules: &[PolicyRule]) -> Result<(), String> {
        let held = self.roles.with(|roles| roles.rules(user, namespace));
        covers::confirm(user, &held, rules)
    }
}
