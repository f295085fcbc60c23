//! The words of OpenKruise's API: types, annotations, labels, conditions, defaults, validation.
//!
//! This crate exists so that every other part speaks of the same keys and shapes. It is pure: it reads and writes
//! values, and never talks to a cluster. Everything but [`convert`] speaks v1beta1 alone; a conversion webhook of the operator
//! makes it of v1alpha1.

mod budget;
mod cloneset;
pub mod convert;
mod crd;
mod daemonset;
mod gates;
mod image_key;
mod image_pull_job;
mod inplace;
mod kind;
pub mod names;
mod node_image;
mod recreate;
mod report;
mod schema;
mod statefulset;
mod status;
mod template;
mod traffic;

pub use budget::{BudgetSpec, BudgetStatus, Operation, PodUnavailableBudget, TargetRef, group};
pub use cloneset::{
    CloneSet, CloneSetSpec, CloneSetStatus, InPlaceUpdateStrategy, Lifecycle, LifecycleHook, Matcher, OrderTerm,
    PodUpdatePolicy, PriorityStrategy, RollingUpdate, Rollout, ScaleStrategy, ScatterTerm, UpdateStrategy, WeightTerm,
};
pub use crd::{Door, Serving, Version, crds, definitions};
pub use daemonset::{DaemonSet, DaemonSetScaleStrategy, DaemonSetSpec, DaemonSetStatus, RollingUpdateDaemonSet};
pub use gates::{GateError, Gates, boolean};
pub use image_key::ImageKey;
pub use image_pull_job::{
    CompletionPolicy, FailedImage, ImageListPullJob, ImageListPullJobSpec, ImageListPullJobStatus, ImagePullJob,
    ImagePullJobSpec, ImagePullJobStatus, NodeSelector, PullPolicy, PullTemplate,
};
pub use inplace::{
    ContainerOrigin, InPlaceUpdateState, LastContainerStatus, PreCheck, RefMetadata, Texts, UpdateSpec, origins,
    write_origins,
};
pub use names::{API_VERSION, GROUP};
pub use node_image::{
    IF_NOT_PRESENT, ImageSpec, ImageStatus, NodeImage, NodeImageSpec, NodeImageStatus, PullPhase, SandboxConfig,
    SecretReference, SyncStatus, TagPullPolicy, TagSpec, TagStatus,
};
pub use recreate::{
    ContainerRecreateRequest, ContainerSnapshot, FailurePolicy, RecreateContainer, RecreatePhase, RecreateSpec,
    RecreateState, RecreateStatus, RecreateStrategy, StatusContext,
};
pub use report::{
    Counter, Latency, Lost, Phase, ReportStatus, RolloutReport, ServiceCounter, Step, Steps, read_seconds, seconds,
};
pub use statefulset::{
    ClaimRetentionPolicy, StatefulSet, StatefulSetOrdinals, StatefulSetRollingUpdate, StatefulSetScaleStrategy,
    StatefulSetSpec, StatefulSetStatus, UnorderedUpdate, VolumeClaimStatus, VolumeClaimUpdateStrategy,
};
pub use status::{Condition, Figures, Status};
pub use template::filled;
pub use traffic::{NodeTraffic, PodTraffic, TrafficStatus};
