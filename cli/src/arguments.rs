//! What the user may type. Parsing only: each command has its own options beside it, and the policy as well.

use clap::{Parser, Subcommand};

use crate::agent::AgentOptions;
use crate::bench::BenchOptions;
use crate::check::CheckOptions;
use crate::demo::DemoOptions;
use crate::dns::DnsOptions;
use crate::image::ImageOptions;
use crate::install::{CrdsOptions, InstallOptions, StatusOptions, TakeoverOptions, UninstallOptions};
use crate::operator::OperatorOptions;
use crate::plan::PlanOptions;
use crate::probe::ProbeOptions;
use crate::up::{SampleOptions, UpOptions};
use crate::watch::{RestartOptions, WatchOptions};

/// Keeps applications on Kubernetes afloat while their containers are replaced in place.
#[derive(Parser)]
#[command(name = "afloat", version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Boot a cluster, update one application in several ways under load, and show what each way costs
    Demo(DemoOptions),
    /// Run the embedded Kubernetes cluster with the operator in the foreground
    Up(UpOptions),
    /// Start a small web application on the cluster of `afloat up`, in two versions, to play with
    Sample(SampleOptions),
    /// Run the operator against a Kubernetes cluster
    Operator(OperatorOptions),
    /// Report what a node's kube-proxy has let go of, for the operator; runs on each node
    Agent(AgentOptions),
    /// Look for what loses requests in objects, before they are applied or where they run
    Check(CheckOptions),
    /// Say what applying a changed CloneSet, Deployment or StatefulSet will do, and why
    Plan(PlanOptions),
    /// Print the CustomResourceDefinitions that the operator needs, as YAML
    Crds(CrdsOptions),
    /// Print everything that a cluster needs, for `kubectl apply -f -`
    Install(InstallOptions),
    /// Print what may be deleted without a pod noticing, for `kubectl delete --ignore-not-found -f -`: all but CRDs and namespaces
    Uninstall(UninstallOptions),
    /// Look whether what is installed works and may do what it must, and say what to do
    Status(StatusOptions),
    /// Switch a living cluster from OpenKruise's manager to Afloat, or back
    Takeover(TakeoverOptions),
    /// Ask the DNS server of a running `afloat up`
    Dns(DnsOptions),
    /// Send requests at a fixed rate and count exactly what is lost
    Probe(ProbeOptions),
    /// Follow the rollout of a CloneSet, and what it loses
    Watch(WatchOptions),
    /// Start containers anew where they are: of all pods of a workload within its budget, or of one pod
    Restart(RestartOptions),
    /// Pull, build, load, list and remove the images of the embedded cluster
    Image(ImageOptions),
    /// Measure what parts of Afloat cost
    Bench(BenchOptions),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
