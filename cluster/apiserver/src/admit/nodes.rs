//! Admission plugin NodeRestriction.

use afloat_machinery::admission::Operation;
use afloat_machinery::authorization::nodes::{self, Refusal, Stored, Write};
use bytes::Bytes;
use serde_json::Value;

use crate::admit::Admission;
use crate::read::Reader;
use crate::view;
use crate::wire::call::{Call, document};
use crate::wire::status::Status;

impl Admission {
    /// Asks whether a node may write this. `old`, `object`: as it is stored, and as it shall be. None of the server's own writes
    /// has a call.
    ///
    /// # Errors
    /// If it may not.
    pub(crate) fn restrict_node(
        &self,
        call: Option<&Call>,
        old: Option<&Value>,
        object: Option<&Value>,
    ) -> Result<(), Status> {
        let Some(call) = call.filter(|call| nodes::node_of(&call.user).is_some()) else {
            return Ok(());
        };
        let meta = |field| old.or(object).map_or("", |object| view::meta(object, field));
        let name = call.path.name.as_deref().unwrap_or_else(|| meta("name"));
        let write = Write {
            user: &call.user,
            operation: Operation::of(old, object),
            group: &call.resource.group,
            resource: &call.resource.plural,
            subresource: call.subresource(),
            namespace: call.namespace().unwrap_or_default(),
            name,
            old,
            object,
        };
        nodes::restrict(&write, &self.reader).map_err(|refusal| match refusal {
            Refusal::Forbidden(why) => Status::forbidden(&call.resource, name, &why),
            Refusal::NotFound(kind, name) => Status::not_found_of(kind, &name),
        })
    }

    /// The same of what is posted to a subresource.
    ///
    /// # Errors
    /// If it may not be, or a node sends what cannot be read.
    pub(crate) fn restrict_posted(&self, call: &Call, body: &Bytes) -> Result<(), Status> {
        if call.verb != "create" || nodes::node_of(&call.user).is_none() {
            return Ok(());
        }
        let (object, _) = document(&call.content_type, body)?;
        self.restrict_node(Some(call), None, Some(&object))
    }
}

impl Stored for Reader {
    fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let resource = self.registry().resolve("", "v1", plural)?;
        let namespace = resource.namespaced.then_some(namespace);
        let entry = Self::find(self, &resource, namespace, name)?;
        serde_json::from_slice(&entry.value).ok()
    }
}
