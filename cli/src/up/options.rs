//! What `afloat up` is told.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::options::parse_duration;
use crate::options::registries::RegistryFlags;

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
    /// Feature gates of OpenKruise for the operator: Name=true,Name=false,… (`afloat operator --help` has all of them)
    #[arg(
        long,
        value_name = "GATES",
        default_value = "",
        hide_default_value = true,
        conflicts_with = "no_operator"
    )]
    pub(crate) feature_gates: String,
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
