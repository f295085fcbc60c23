//! Roles and bindings: nobody gives away what they do not have, unless they may `escalate` or `bind`. Certificates: nobody approves or
//! signs without being allowed to.
//!
//! What this process writes of its own accord (the roles that every cluster has) is not asked about.

use afloat_machinery::authorization::{Attributes, GROUP, MASTERS, PolicyRule, RoleRef};
use afloat_machinery::kinds::Grants;
use serde_json::Value;

use crate::admit::{Admission, certificate};
use crate::view;
use crate::wire::call::Call;
use crate::wire::status::Status;

/// What may only be set by somebody who may do everything, for it can gather any rule.
fn aggregates(role: &Value) -> bool {
    let selectors = role["aggregationRule"]["clusterRoleSelectors"].as_array();
    selectors.is_some_and(|selectors| !selectors.is_empty())
}

/// Whether only that differs which the garbage collector changes.
fn only_collected(old: &Value, new: &Value) -> bool {
    let without = |object: &Value| {
        let mut object = object.clone();
        let meta = view::metadata(&mut object);
        for field in ["ownerReferences", "finalizers", "managedFields", "selfLink"] {
            meta.remove(field);
        }
        object
    };
    without(old) == without(new)
}

impl Admission {
    /// Whether a client may write a role, a binding or a certificate. `old`: as it is stored, if it is.
    ///
    /// # Errors
    /// 403 says what the client would give away without having it; 404 names a role that is not there.
    pub(crate) fn check_rights(&self, call: &Call, old: Option<&Value>, new: &Value) -> Result<(), Status> {
        let master = call.user.is_in(MASTERS);
        match call.resource.builtin.and_then(|row| row.grants) {
            Some(Grants::Certificate) => certificate::check(&self.authorization, call, old, new),
            Some(Grants::Role) if !master => self.check_role(call, old, new),
            Some(Grants::Binding) if !master => self.check_binding(call, old, new),
            _ => Ok(()),
        }
    }

    /// Whether a client whose update turns out to be a creation may create.
    ///
    /// # Errors
    /// 403 if it may not.
    pub(crate) fn may_create(&self, call: &Call) -> Result<(), Status> {
        self.authorization.require(&Attributes {
            namespace: call.namespace().unwrap_or_default(),
            name: call.name(),
            ..Attributes::resource(&call.user, "create", &call.resource.group, &call.resource.plural)
        })
    }

    fn check_role(&self, call: &Call, old: Option<&Value>, new: &Value) -> Result<(), Status> {
        let namespace = call.namespace().unwrap_or_default();
        let escalate = Attributes {
            namespace,
            name: call.name(),
            ..Attributes::resource(&call.user, "escalate", GROUP, &call.resource.plural)
        };
        if self.authorization.allows(&escalate) || old.is_some_and(|old| only_collected(old, new)) {
            return Ok(());
        }
        let refuse = |why: &str| Status::forbidden(&call.resource, view::meta(new, "name"), why);
        let confirm = |rules: &[PolicyRule]| self.authorization.confirm(&call.user, namespace, rules);
        confirm(&PolicyRule::read_all(new)).map_err(|why| refuse(&why))?;
        if aggregates(new) || old.is_some_and(aggregates) {
            let why = "must have cluster-admin privileges to use the aggregationRule";
            confirm(&PolicyRule::everything()).map_err(|_| refuse(why))?;
        }
        Ok(())
    }

    fn check_binding(&self, call: &Call, old: Option<&Value>, new: &Value) -> Result<(), Status> {
        let (role, namespace) = (RoleRef::of(new), call.namespace().unwrap_or_default());
        let referred = self.reader.registry().by_kind(&format!("{GROUP}/v1"), &role.kind);
        let referred = referred.filter(|kind| kind.builtin.is_some_and(|row| row.grants == Some(Grants::Role)));
        let plural = referred.as_ref().map_or("", |kind| kind.plural.as_str());
        let bind = Attributes {
            namespace,
            name: &role.name,
            ..Attributes::resource(&call.user, "bind", &role.group, plural)
        };
        if old.is_some_and(|old| only_collected(old, new)) || (!plural.is_empty() && self.authorization.allows(&bind)) {
            return Ok(());
        }
        if namespace.is_empty() && referred.as_ref().is_some_and(|kind| kind.namespaced) {
            return Err(Status::bad_request("Namespace parameter required."));
        }
        let rules = match (self.authorization.rules_of(&role, namespace), referred) {
            (Ok(rules), _) => rules,
            (Err(_), Some(roles)) => return Err(Status::not_found(&roles, &role.name)),
            (Err(why), None) => return Err(Status::internal(why)),
        };
        let confirmed = self.authorization.confirm(&call.user, namespace, &rules);
        confirmed.map_err(|why| Status::forbidden(&call.resource, view::meta(new, "name"), &why))
    }
}
