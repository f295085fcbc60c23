//! A CloneSet in the words that every workload has.

use afloat_api::{API_VERSION, CloneSet};

use crate::workload::owner::Owner;

/// A CloneSet as the owner of its pods.
pub fn owner(set: &CloneSet) -> Owner<'_> {
    Owner {
        api_version: API_VERSION,
        kind: "CloneSet",
        metadata: &set.metadata,
        template: &set.spec.template,
    }
}
