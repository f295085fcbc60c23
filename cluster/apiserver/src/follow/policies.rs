//! The ValidatingAdmissionPolicies and the webhooks that are heeded.

use std::sync::Arc;

use afloat_machinery::admission::Policies;
use afloat_machinery::admission::webhook::{Flavour, Hooks};
use serde_json::Value;

use super::Follows;
use crate::view;

/// Policies and their bindings, and webhooks, compiled.
#[derive(Default)]
pub(crate) struct Bound {
    policies: Arc<Policies>,
    hooks: Arc<Hooks>,
    prefixes: Prefixes,
}

/// By which keys they are told apart.
#[derive(Default)]
pub(crate) struct Prefixes {
    pub(crate) policies: String,
    pub(crate) bindings: String,
    pub(crate) mutating: String,
    pub(crate) validating: String,
}

impl Prefixes {
    fn flavour(&self, key: &str) -> Option<Flavour> {
        if key.starts_with(&self.mutating) {
            Some(Flavour::Mutating)
        } else if key.starts_with(&self.validating) {
            Some(Flavour::Validating)
        } else {
            None
        }
    }
}

impl Bound {
    /// None yet.
    pub(crate) fn new(prefixes: Prefixes) -> Self {
        Self {
            prefixes,
            ..Self::default()
        }
    }

    /// The policies that count now.
    pub(crate) fn policies(&self) -> Arc<Policies> {
        Arc::clone(&self.policies)
    }

    /// The webhooks that are there now.
    pub(crate) fn hooks(&self) -> Arc<Hooks> {
        Arc::clone(&self.hooks)
    }
}

impl Follows for Bound {
    fn put(&mut self, key: &str, object: &Value) {
        if let Some(flavour) = self.prefixes.flavour(key) {
            Arc::make_mut(&mut self.hooks).put(flavour, object);
        } else if key.starts_with(&self.prefixes.policies) {
            Arc::make_mut(&mut self.policies).put_policy(object);
        } else if key.starts_with(&self.prefixes.bindings) {
            Arc::make_mut(&mut self.policies).put_binding(object);
        }
    }

    fn removed(&mut self, key: &str, last: &Value) {
        let name = view::meta(last, "name");
        if let Some(flavour) = self.prefixes.flavour(key) {
            Arc::make_mut(&mut self.hooks).remove(flavour, name);
        } else if key.starts_with(&self.prefixes.policies) {
            Arc::make_mut(&mut self.policies).remove_policy(name);
        } else if key.starts_with(&self.prefixes.bindings) {
            Arc::make_mut(&mut self.policies).remove_binding(name);
        }
    }

    fn clear(&mut self) {
        self.policies = Arc::default();
        self.hooks = Arc::default();
    }
}
