//! Defaults, validation and update rules of the built-in kinds: the functions that their rows name.
//!
//! Everything works on JSON; a field that has the wrong type is reported by the validators and otherwise left alone, so
//! that nothing a client sent is lost on the way.

pub(crate) mod admission;
pub(crate) mod batch_checks;
mod batch_policies;
pub(crate) mod batch_status;
pub mod certificates;
pub(crate) mod classes;
pub(crate) mod cluster;
pub(crate) mod crd;
pub(crate) mod cron_job_checks;
pub(crate) mod pod;
pub(crate) mod rbac;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod service_checks;
pub(crate) mod volume;
pub(crate) mod volume_checks;
pub(crate) mod workload;
pub(crate) mod workload_checks;

#[cfg(test)]
mod tests;
