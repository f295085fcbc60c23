//! What the user may type. Parsing only: policy sits in the modules that get these structures.

mod check;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::{Deserialize, Serialize};

pub(crate) use check::{CheckFormat, CheckOptions, FailOn, PlanOptions, PolicyAction};

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
    /// Run the operator against a Kubernetes cluster
    Operator(OperatorOptions),
    /// Report what a node's kube-proxy has let go of, for the operator; runs on each node
    Agent(crate::agent::AgentOptions),
    /// Look for what loses requests in objects, before they are applied or where they run
    Check(CheckOptions),
    /// Say what applying a changed CloneSet, Deployment or StatefulSet will do, and why
    Plan(PlanOptions),
    /// Print the CustomResourceDefinitions that the operator needs, as YAML
    Crds,
    /// Ask the DNS server of a running `afloat up`
    Dns(DnsOptions),
    /// Send requests at a fixed rate and count exactly what is lost
    Probe(crate::probe::ProbeOptions),
    /// Follow the rollout of a CloneSet, and what it loses
    Watch(crate::watch::WatchOptions),
    /// Pull, build, load, list and remove the images of the embedded cluster
    Image(ImageOptions),
    /// Measure what parts of Afloat cost
    Bench(BenchOptions),
}

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

/// `afloat up`
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UpOptions {
    /// Nodes of the cluster; 0 runs the control plane alone
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(0..=50))]
    pub(crate) nodes: u32,
    /// Where the cluster keeps its state [default: a folder of the user's]
    #[arg(long, env = "AFLOAT_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Port of the API server on 127.0.0.1
    #[arg(long, default_value_t = 6443)]
    pub(crate) port: u16,
    /// Port of the cluster's DNS server on 127.0.0.1, UDP and TCP [default: any free one, see `afloat dns`]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub(crate) dns_port: u16,
    /// Delay with which a node's proxy learns of an endpoint change, to see what slow proxies do
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    pub(crate) proxy_lag: Duration,
    /// Do not run the operator (another one will: afloat operator --kubeconfig …)
    #[arg(long)]
    pub(crate) no_operator: bool,
    /// OCI runtime program to use instead of the built-in one, for example runc
    #[arg(long, value_name = "PATH")]
    pub(crate) oci_runtime: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) images: UpImageOptions,
}

/// What `afloat up` does about images.
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UpImageOptions {
    /// Pull no images: those that `afloat image` brought are all there are
    #[arg(long, env = "AFLOAT_OFFLINE")]
    pub(crate) offline: bool,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
    /// Remove unused images once so many per cent of the disk are used
    #[arg(long, value_name = "PERCENT", default_value_t = 85, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) image_gc_high_threshold: u8,
    /// Remove them until it is so many
    #[arg(long, value_name = "PERCENT", default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) image_gc_low_threshold: u8,
    /// Keep unused images for so long at least
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = parse_duration)]
    pub(crate) minimum_image_ttl_duration: Duration,
}

/// What there is to say about registries.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RegistryFlags {
    /// A registry that may be spoken to without TLS (may be given several times; those on this machine always may)
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub(crate) insecure: Vec<String>,
    /// Certificates (PEM) of authorities to trust for registries, beside the system's (may be given several times)
    #[arg(long = "registry-ca", value_name = "FILE")]
    pub(crate) authorities: Vec<PathBuf>,
    /// A server to ask before a registry, for example docker.io=http://localhost:5000 (may be given several times)
    #[arg(long = "registry-mirror", value_name = "REGISTRY=URL", value_parser = parse_mirror)]
    pub(crate) mirrors: Vec<String>,
}

/// `afloat operator`
#[derive(Args, Clone, Debug)]
pub(crate) struct OperatorOptions {
    /// Kubeconfig of the cluster [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long)]
    pub(crate) context: Option<String>,
    /// Look after one namespace only
    #[arg(long, env = "AFLOAT_NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Objects worked on at the same time
    #[arg(long, env = "AFLOAT_WORKERS", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) workers: u16,
    /// Where to serve /metrics, /healthz and /readyz, for example 127.0.0.1:8080 [default: nowhere]
    #[arg(long, env = "AFLOAT_METRICS_ADDRESS", value_name = "ADDRESS")]
    pub(crate) metrics_address: Option<std::net::SocketAddr>,
    /// Act without holding the leader's Lease: only where no other operator, OpenKruise's manager included, can run
    #[arg(long)]
    pub(crate) no_leader_election: bool,
    /// Namespace of the leader's Lease
    #[arg(long, env = "AFLOAT_LEASE_NAMESPACE", default_value = "kruise-system")]
    pub(crate) lease_namespace: String,
    /// Name of the leader's Lease; the default is OpenKruise's own, so that only one of the two acts
    #[arg(long, env = "AFLOAT_LEASE_NAME", default_value = "kruise-manager")]
    pub(crate) lease_name: String,
}

/// Which cluster, as kubectl is told.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterFlags {
    /// Kubeconfig of a cluster [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long)]
    pub(crate) context: Option<String>,
    /// Namespace [default: the context's]
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
}

/// `afloat dns`
#[derive(Args, Clone, Debug)]
pub(crate) struct DnsOptions {
    /// A name, or an IPv4 address to find the name of; without a dot at the end it is searched for as a pod would
    #[arg(required_unless_present = "address_only")]
    pub(crate) name: Option<String>,
    /// Type of the records: A, SRV, PTR, CNAME, TXT, …
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "A")]
    pub(crate) kind: String,
    /// Search as a pod of this namespace would
    #[arg(short, long, default_value = "default")]
    pub(crate) namespace: String,
    /// Print only the address of the DNS server, for other tools: dig @127.0.0.1 -p PORT
    #[arg(long = "address")]
    pub(crate) address_only: bool,
    /// Where the cluster keeps its state [default: a folder of the user's]
    #[arg(long, env = "AFLOAT_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

/// `afloat image`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageOptions {
    /// Where the cluster keeps its state [default: a folder of the user's]
    #[arg(long, env = "AFLOAT_DATA_DIR", value_name = "DIR", global = true)]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ImageCommand {
    /// Build an image from files
    Build(BuildOptions),
    /// Load an image from an OCI layout or a docker archive
    Load {
        /// A directory or a tar file
        path: PathBuf,
    },
    /// Pull an image from its registry
    Pull(PullOptions),
    /// List the images
    Ls,
    /// Forget a name, and with its last name the image
    Rm {
        /// Name of the image, or its id (sha256:…)
        name: String,
    },
    /// Remove layers that no image and no container has any more
    Prune {
        /// Remove images first that came from a registry and that no container uses
        #[arg(long)]
        all: bool,
    },
}

/// `afloat image pull`
#[derive(Args, Clone, Debug)]
pub(crate) struct PullOptions {
    /// Name of the image, for example registry.example.com/team/web:v1
    pub(crate) name: String,
    /// A file with users and passwords, as Docker's config.json
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct BuildOptions {
    /// Name and tag, for example web:v1
    pub(crate) name: String,
    /// A file or folder and where it goes in the image (may be given several times)
    #[arg(long = "file", value_name = "SRC=DST", value_parser = parse_pair)]
    pub(crate) files: Vec<(String, String)>,
    /// Add the shared libraries that the files need
    #[arg(long)]
    pub(crate) libraries: bool,
    /// Program to run, and arguments that are always given (may be given several times)
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) entrypoint: Vec<String>,
    /// Arguments that a pod may replace (may be given several times)
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) cmd: Vec<String>,
    /// A variable (may be given several times)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) env: Vec<(String, String)>,
    /// User that the program runs as
    #[arg(long, default_value = "")]
    pub(crate) user: String,
    /// Folder that the program starts in
    #[arg(long = "workdir", default_value = "")]
    pub(crate) working_dir: String,
    /// Signal that asks the program to stop
    #[arg(long, default_value = "")]
    pub(crate) stop_signal: String,
}

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
    Lossless(crate::bench::lossless::LosslessOptions),
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

/// `afloat bench operator`
#[derive(Args, Clone, Debug)]
pub(crate) struct BenchOperatorOptions {
    /// Kubeconfig of a cluster to measure on [default: the embedded API server, started for this]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Pods of all CloneSets together
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) pods: u32,
    /// CloneSets that share the pods
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) sets: u32,
    /// Simulated nodes [default: one for 100 pods, at most 100]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) nodes: Option<u32>,
    /// Pods that may be unavailable at once: a number or a percentage
    #[arg(long, default_value = "20%", value_parser = parse_budget)]
    pub(crate) max_unavailable: String,
    /// Time that a simulated container takes to start, for example 500ms
    #[arg(long, default_value = "500ms", value_parser = parse_duration)]
    pub(crate) container_start: Duration,
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

/// `afloat bench node`
#[derive(Args, Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BenchNodeOptions {
    /// Pods, of one container each
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub(crate) pods: u32,
    /// Nodes that share them; a node has addresses for 250 pods and room for 110
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) nodes: u32,
    /// Limit for each phase
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// OCI runtime program to use instead of the built-in one, for example runc
    #[arg(long, value_name = "PATH")]
    pub(crate) oci_runtime: Option<PathBuf>,
}

/// `1.5s`, `500ms`, `2m`; a bare number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|e| format!("not a time span: {e}"));
    }
    let span: jiff::SignedDuration = text
        .parse()
        .map_err(|_| "not a time span such as 500ms or 2s".to_owned())?;
    Duration::try_from(span).map_err(|_| "a time span cannot be negative".to_owned())
}

fn parse_mirror(text: &str) -> Result<String, String> {
    afloat_runtime::registry::Mirror::parse(text).map(|_| text.to_owned())
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((a, b)) if !a.is_empty() => Ok((a.to_owned(), b.to_owned())),
        _ => Err("needs the form A=B".to_owned()),
    }
}

/// An int-or-percent as Kubernetes takes it; at least one pod or one percent, or nothing could ever be updated.
fn parse_budget(text: &str) -> Result<String, String> {
    let (digits, limit) = match text.strip_suffix('%') {
        Some(digits) => (digits, 100),
        None => (text, u32::MAX),
    };
    match digits.parse::<u32>() {
        Ok(n) if n >= 1 && n <= limit => Ok(text.to_owned()),
        _ => Err("needs a positive number, or a percentage from 1% to 100%".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn time_spans() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("2s"), Ok(Duration::from_secs(2)));
        for bad in ["-1", "soon", "-2s", "nan"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn budgets() {
        for good in ["1", "50%", "100%"] {
            assert!(parse_budget(good).is_ok(), "{good}");
        }
        for bad in ["0", "0%", "101%", "-1", "many", ""] {
            assert!(parse_budget(bad).is_err(), "{bad}");
        }
    }
}
