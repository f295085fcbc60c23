//! What `afloat bench` and `afloat bench operator` are told.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::kinds::{Row, parse_kind};
use super::lossless::LosslessOptions;
use super::node::BenchNodeOptions;
use super::release::ReleaseOptions;
use super::template::PodForm;
use super::version::ApiVersion;
use crate::options::{parse_budget, parse_duration};

/// `afloat bench`
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchOptions {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum BenchCommand {
    /// Time, CPU, memory and writes of the operator for many pods on simulated nodes
    Operator(BenchOperatorOptions),
    /// Speed, memory and leftovers of the node agent, with real containers on nodes of this machine
    Node(BenchNodeOptions),
    /// Roll out again and again under load of all protocols while parts fail, and count what is lost
    Lossless(LosslessOptions),
    /// Seconds of a release by new pods, in place, and in place with images pulled beforehand, and what they are made of
    Release(ReleaseOptions),
    /// The embedded API server alone
    #[command(hide = true)]
    Server {
        #[arg(long)]
        dir: PathBuf,
    },
    /// Runs a program that dies with its parent
    #[command(hide = true)]
    Leash {
        parent: i32,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<OsString>,
    },
}

/// How often a simulated kubelet writes the status of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum KubeletStatuses {
    /// For each step, as real ones: created, sandbox, running, ready; ended, running, ready
    #[default]
    Each,
    /// As few as possible
    Merged,
}

/// `afloat bench operator`
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchOperatorOptions {
    /// Kubeconfig of a cluster to measure on [default: the embedded API server, started for this]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Kind of the sets: cloneset, statefulset or daemonset, of which each has a pod on every simulated node
    #[arg(long, default_value = "cloneset", value_parser = parse_kind)]
    pub(crate) kind: Row,
    /// Pods of all sets together
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pods: u32,
    /// Sets that share the pods
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) sets: u32,
    /// Simulated nodes [default: one for 100 pods, at most 100; of daemonsets, as many as one has pods]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) nodes: Option<u32>,
    /// Pods that may be unavailable at once: a number or a percentage
    #[arg(long, default_value = "20%", value_parser = parse_budget)]
    pub(crate) max_unavailable: String,
    /// Time that a simulated container takes to start, for example 500ms
    #[arg(long, default_value = "500ms", value_parser = parse_duration)]
    pub(crate) container_start: Duration,
    /// Version that the sets are written in: OpenKruise 1.9 serves v1alpha1 alone
    #[arg(long, value_enum, default_value_t)]
    pub(crate) api_version: ApiVersion,
    /// What the pods are like
    #[arg(long, value_enum, default_value_t)]
    pub(crate) pod_form: PodForm,
    /// How often simulated kubelets write a pod's status
    #[arg(long, value_enum, default_value_t)]
    pub(crate) statuses: KubeletStatuses,
    /// How long to watch the operator do nothing
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) idle: Duration,
    /// Then update that many pods of the first set only (may be given several times) [default: 1 % and 10 % of the pods]
    #[arg(long, value_name = "PODS")]
    pub(crate) partial: Vec<u32>,
    /// Limit for each phase
    #[arg(long, default_value = "15m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Program to measure; it is run with the arguments of `afloat operator` [default: this one]
    #[arg(long, value_name = "PATH")]
    pub(crate) operator_binary: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
