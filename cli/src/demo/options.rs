//! What `afloat demo` is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::options::{parse_budget, parse_duration};

/// `afloat demo`
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DemoOptions {
    /// Pods of the application
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) replicas: u32,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) nodes: u32,
    /// Requests a second, half on new connections, half on kept-alive ones
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub(crate) rate: u32,
    /// Pods that may be unavailable at once, the same in every row: a number or a percentage
    #[arg(long, default_value = "50%", value_parser = parse_budget)]
    pub(crate) max_unavailable: String,
    /// Delay with which a node's proxy learns of an endpoint change, for example 500ms or 1s
    #[arg(long, default_value = "500ms", value_parser = parse_duration)]
    pub(crate) proxy_lag: Duration,
    /// Let the last node's proxy learn of nothing during each release, to see what a stuck proxy does
    #[arg(long)]
    pub(crate) stuck_proxy: bool,
    /// Time until the application listens after its start, for example 2s
    #[arg(long, default_value = "1s", value_parser = parse_duration)]
    pub(crate) app_start: Duration,
    /// Only these strategies (may be given several times; default: all)
    #[arg(long = "strategy", value_enum)]
    pub(crate) strategies: Vec<Strategy>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// OCI runtime program to use instead of the built-in one, for example runc
    #[arg(long, value_name = "PATH")]
    pub(crate) oci_runtime: Option<PathBuf>,
}

/// A way to release, in the order in which the demo runs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Strategy {
    /// Deployment without probe and preStop
    DeploymentNaive,
    /// Deployment with readinessProbe and preStop sleep
    DeploymentCareful,
    /// CloneSet, pods updated in place
    #[value(name = "cloneset-inplace")]
    #[serde(rename = "cloneset-inplace")]
    CloneSetInPlace,
    /// CloneSet, pods updated in place as soon as all proxies have let go of them
    #[value(name = "cloneset-observed")]
    #[serde(rename = "cloneset-observed")]
    CloneSetObserved,
    /// CloneSet, pods replaced
    #[value(name = "cloneset-recreate")]
    #[serde(rename = "cloneset-recreate")]
    CloneSetRecreate,
}
