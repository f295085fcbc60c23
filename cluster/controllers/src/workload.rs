//! What keeps pods running: ReplicaSets, Deployments, StatefulSets, DaemonSets, Jobs, and the budgets that protect them.

pub(crate) mod daemonset;
pub(crate) mod deployment;
pub(crate) mod disruption;
pub(crate) mod history;
pub(crate) mod job;
pub(crate) mod pod_control;
pub(crate) mod replicaset;
pub(crate) mod statefulset;
pub(crate) mod template;
