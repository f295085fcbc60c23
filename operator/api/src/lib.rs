//! The words of OpenKruise's API: types, annotations, labels, conditions, defaults, validation.
//!
//! This crate exists so that every other part speaks of the same keys and shapes. It is pure: it reads and writes
//! values, and never talks to a cluster. Conversion between v1alpha1 and v1beta1 happens here, on reading: the CRDs
//! have no conversion webhook (strategy None), so both shapes may be stored, and [`CloneSetSpec::rollout`] turns
//! either into one internal form.

mod cloneset;
mod crd;
mod gates;
mod inplace;
mod kind;
pub mod names;
mod report;
mod schema;
mod traffic;

pub use cloneset::{
    CloneSet, CloneSetSpec, CloneSetStatus, Condition, InPlaceUpdateStrategy, Lifecycle, LifecycleHook, Matcher,
    OrderTerm, PodUpdatePolicy, PriorityStrategy, RollingUpdate, Rollout, ScaleStrategy, ScatterTerm, UpdateStrategy,
    WeightTerm,
};
pub use crd::crds;
pub use gates::{GateError, Gates};
pub use inplace::{
    ContainerOrigin, InPlaceUpdateState, LastContainerStatus, PreCheck, RefMetadata, Texts, UpdateSpec, origins,
    write_origins,
};
pub use names::{API_VERSION, GROUP};
pub use report::{
    Counter, Latency, Lost, Phase, ReportStatus, RolloutReport, ServiceCounter, Step, Steps, read_seconds, seconds,
};
pub use traffic::{NodeTraffic, PodTraffic, TrafficStatus};
