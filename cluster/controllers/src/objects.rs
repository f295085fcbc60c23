//! The parts of objects that the loops read. Own partial types instead of k8s-openapi's, because a controller that caches
//! whole Pods pays tens of KiB for each of them; templates stay JSON so that no field is lost between a Deployment and a Pod.

mod budget;
mod certificate;
pub(crate) mod condition;
pub(crate) mod counts;
mod cronjob;
mod daemonset;
mod deployment;
mod job;
mod kind;
mod namespace;
mod node;
pub(crate) mod pod;
mod replicaset;
pub(crate) mod requests;
mod revision;
pub(crate) mod selector;
pub(crate) mod service;
mod statefulset;
pub(crate) mod storage;
pub(crate) mod time;

pub(crate) use budget::{PodDisruptionBudget, PodDisruptionBudgetStatus};
pub(crate) use certificate::CertificateSigningRequest;
pub(crate) use condition::Condition;
pub(crate) use cronjob::{CronJob, CronJobStatus, JobReference, Rescheduled};
pub(crate) use daemonset::{DaemonSet, DaemonSetStatus};
pub(crate) use deployment::{Deployment, DeploymentStatus};
pub(crate) use job::{Job, JobCondition, JobStatus, OnExitCodes, Uncounted};
pub(crate) use kind::{Index, Key, Kind, LAST_APPLIED, annotation, controlled_by, controller_of, uid_of};
pub(crate) use namespace::{ConfigMap, Namespace, ServiceAccount};
pub(crate) use node::{Lease, Node, Taint, covers, tolerates};
pub(crate) use pod::Pod;
pub(crate) use replicaset::{ReplicaSet, ReplicaSetSpec, ReplicaSetStatus, ReplicationController};
pub(crate) use requests::Requests;
pub(crate) use revision::ControllerRevision;
pub(crate) use service::{EndpointSlice, Endpoints, Service};
pub(crate) use statefulset::{StatefulSet, StatefulSetSpec, StatefulSetStatus};
pub(crate) use storage::{Claim, StorageClass, Volume};
