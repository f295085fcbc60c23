//! The ValidatingAdmissionPolicies that are heeded.

use std::sync::Arc;

use afloat_machinery::admission::Policies;
use serde_json::Value;

use super::Follows;
use crate::view;

/// Policies and their bindings, compiled.
#[derive(Default)]
pub(crate) struct Bound {
    policies: Arc<Policies>,
    policy_prefix: String,
    binding_prefix: String,
}

impl Bound {
    /// None yet. Told apart by the prefixes of their keys.
    pub(crate) fn new(policy_prefix: String, binding_prefix: String) -> Self {
        Self {
            policies: Arc::default(),
            policy_prefix,
            binding_prefix,
        }
    }

    /// Those that count now.
    pub(crate) fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies)
    }
}

impl Follows for Bound {
    fn put(&mut self, key: &str, object: &Value) {
        let policies = Arc::make_mut(&mut self.policies);
        if key.starts_with(&self.policy_prefix) {
            policies.put_policy(object);
        } else if key.starts_with(&self.binding_prefix) {
            policies.put_binding(object);
        }
    }

    fn removed(&mut self, key: &str, last: &Value) {
        let (policies, name) = (Arc::make_mut(&mut self.policies), view::meta(last, "name"));
        if key.starts_with(&self.policy_prefix) {
            policies.remove_policy(name);
        } else if key.starts_with(&self.binding_prefix) {
            policies.remove_binding(name);
        }
    }

    fn clear(&mut self) {
        self.policies = Arc::default();
    }
}
