//! Which objects of a collection a list or watch is about: label selector, field selector, one name.

use afloat_machinery::kinds::Resource;
use afloat_machinery::selector::{FieldSelector, LabelSelector};
use serde_json::Value;

use crate::wire::request::{ObjectPath, Query};
use crate::wire::status::Status;

/// A parsed filter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    labels: LabelSelector,
    fields: FieldSelector,
    /// Only the object of this name; decided by key alone.
    pub(crate) name: Option<String>,
}

impl Filter {
    pub(crate) fn parse(resource: &Resource, query: &Query, path: &ObjectPath) -> Result<Self, Status> {
        let labels =
            LabelSelector::parse(query.get("labelSelector").unwrap_or_default()).map_err(Status::bad_request)?;
        let fields = FieldSelector::parse(resource, query.get("fieldSelector").unwrap_or_default())
            .map_err(Status::bad_request)?;
        let name = path.name.clone().or_else(|| fields.name().map(str::to_owned));
        Ok(Self { labels, fields, name })
    }

    /// Whether the object itself must be looked at.
    pub(crate) fn looks_inside(&self) -> bool {
        !self.labels.selects_all() || !self.fields.selects_all()
    }

    /// Whether the key's last segment is right.
    pub(crate) fn admits_key(&self, key: &str) -> bool {
        self.name
            .as_ref()
            .is_none_or(|name| key.rsplit('/').next() == Some(name))
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.labels.matches(object) && self.fields.matches(object)
    }
}
