//! ValidatingAdmissionPolicies: asked about every write that a client makes.
//!
//! What this process does of its own accord (evictions' budgets, deletions of a definition's objects) is not asked about;
//! nor are the subresources `scale`, `binding`, `eviction` and `token`, and what a connection is opened to (`exec`).

use afloat_machinery::admission::{Operation, Request};
use afloat_machinery::kinds::Resource;
use serde_json::Value;

use crate::admit::Admission;
use crate::view;
use crate::wire::call::Call;
use crate::wire::status::Status;

impl Admission {
    /// Whether a policy may be asked about a resource.
    pub(crate) fn evaluates(&self, resource: &Resource) -> bool {
        self.policies.with(|bound| bound.policies()).look_at(resource)
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
        let policies = self.policies.with(|bound| bound.policies());
        let Some(call) = call.filter(|call| policies.look_at(&call.resource)) else {
            return Ok(Vec::new());
        };
        let meta = |field| object.or(old).map_or("", |object| view::meta(object, field));
        let name = meta("name");
        let namespace: Option<Value> = Some(meta("namespace"))
            .filter(|namespace| !namespace.is_empty())
            .and_then(|namespace| self.reader.namespace(namespace))
            .and_then(|entry| serde_json::from_slice(&entry.value).ok());
        let verdict = policies.review(&Request {
            resource: &call.resource,
            subresource: call.subresource(),
            operation: Operation::of(old, object),
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
