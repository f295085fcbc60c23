//! Pod Security admission: what a namespace's labels ask of the pods in it.
//!
//! Source: <https://kubernetes.io/docs/concepts/security/pod-security-standards/> and
//! <https://kubernetes.io/docs/concepts/security/pod-security-admission/>, as of Kubernetes 1.32. As there, without a configuration
//! file: what no label speaks of is `privileged:latest`, and nobody is exempt.

mod baseline;
mod checks;
mod pod;
mod policy;
mod restricted;
mod review;
mod survey;
#[cfg(test)]
mod tests;

pub use policy::{Level, LevelVersion, Version};
pub use review::{NamespaceChange, Verdict, review_namespace, review_pod, review_template};
pub use survey::{PODS_MAX, Survey, controller_uid};
