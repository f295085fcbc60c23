//! The rows of the built-in kinds: all that is known of each stands in its row, or in functions that its row names. To add a
//! kind is to write a row.

mod access;
mod api;
mod apps;
mod cluster;
mod core;
mod storage;

use crate::resource::Kind;

/// Every group.
const GROUPS: &[&[Kind]] = &[
    core::CORE_KINDS,
    apps::APPS_KINDS,
    apps::BATCH_KINDS,
    apps::AUTOSCALING_KINDS,
    apps::POLICY_KINDS,
    storage::STORAGE_KINDS,
    api::ADMISSIONREGISTRATION_KINDS,
    api::APIEXTENSIONS_KINDS,
    api::APIREGISTRATION_KINDS,
    access::AUTHENTICATION_KINDS,
    access::AUTHORIZATION_KINDS,
    access::CERTIFICATES_KINDS,
    access::RBAC_KINDS,
    cluster::COORDINATION_KINDS,
    cluster::DISCOVERY_KINDS,
    cluster::EVENTS_KINDS,
    cluster::METRICS_KINDS,
    cluster::NETWORKING_KINDS,
    cluster::NODE_KINDS,
    cluster::SCHEDULING_KINDS,
];

/// Every built-in kind.
pub(super) fn all() -> impl Iterator<Item = &'static Kind> {
    GROUPS.iter().copied().flatten()
}
