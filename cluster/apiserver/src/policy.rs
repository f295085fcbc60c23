//! ValidatingAdmissionPolicies: kept compiled, and asked about every write that a client makes.
//!
//! What this process does of its own accord (evictions' budgets, deletions of a definition's objects) is not asked about;
//! nor are the subresources `scale`, `binding`, `eviction` and `token`, and what a connection is opened to (`exec`).

use std::sync::{Arc, PoisonError};

use afloat_machinery::admission::{Operation, Policies, Request};
use afloat_machinery::kinds::Resource;
use afloat_store::Entry;
use serde_json::Value;

use crate::route::Call;
use crate::status::Status;
use crate::{ApiServer, view};

const GROUP: &str = "admissionregistration.k8s.io";
const POLICIES: &str = "validatingadmissionpolicies";
const BINDINGS: &str = "validatingadmissionpolicybindings";

/// Whether what is written decides what may be written.
pub(crate) fn is_policy(resource: &Resource) -> bool {
    resource.group == GROUP && [POLICIES, BINDINGS].contains(&resource.plural.as_str())
}

impl ApiServer {
    /// Reads all policies anew. Under the lock, so that of two writes the later one counts whoever comes here first.
    pub(crate) fn load_policies(&self) {
        let registry = self.registry();
        let mut policies = self.inner.policies.write().unwrap_or_else(PoisonError::into_inner);
        let all = |plural: &str| -> Vec<Value> {
            let Some(resource) = registry.resolve(GROUP, "v1", plural) else {
                return Vec::new();
            };
            let entries = self.inner.store.list(&view::prefix(&resource, None), None, 0).entries;
            let read = |entry: &Entry| serde_json::from_slice(&entry.value).ok();
            entries.iter().filter_map(read).collect()
        };
        *policies = Arc::new(Policies::new(&all(POLICIES), &all(BINDINGS)));
    }

    /// Asks the policies about a call. `old` and `object`: as it is stored, as it will be. None of the server's own writes
    /// has a call.
    ///
    /// # Errors
    /// If a policy denies it. Otherwise the client's warnings.
    pub(crate) fn ask_policies(
        &self,
        call: Option<&Call>,
        old: Option<&Value>,
        object: Option<&Value>,
        dry_run: bool,
    ) -> Result<Vec<String>, Status> {
        let policies = Arc::clone(&self.inner.policies.read().unwrap_or_else(PoisonError::into_inner));
        let Some(call) = call.filter(|call| policies.look_at(&call.resource)) else {
            return Ok(Vec::new());
        };
        let meta = |field| object.or(old).map_or("", |object| view::meta(object, field));
        let name = meta("name");
        let namespace: Option<Value> = Some(meta("namespace"))
            .filter(|namespace| !namespace.is_empty())
            .and_then(|namespace| self.inner.store.get(&view::namespace_key(namespace)))
            .and_then(|entry| serde_json::from_slice(&entry.value).ok());
        let verdict = policies.review(&Request {
            resource: &call.resource,
            subresource: call.subresource(),
            operation: match (old, object) {
                (None, _) => Operation::Create,
                (Some(_), Some(_)) => Operation::Update,
                (Some(_), None) => Operation::Delete,
            },
            name,
            namespace: namespace.as_ref(),
            object,
            old,
            user: &call.user.name,
            groups: &call.user.groups,
            dry_run,
        });
        for text in &verdict.audit {
            tracing::info!(user = call.user.name, verb = call.verb, name, "audit: {text}");
        }
        match verdict.denied {
            Some(denial) => Err(Status::denied(&call.resource, name, &denial)),
            None => Ok(verdict.warnings),
        }
    }
}
