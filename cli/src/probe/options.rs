//! What `afloat probe` is told.

use std::path::PathBuf;
use std::time::Duration;

use afloat_probe::{ModeRate, Options};
use clap::Args;

use crate::options::parse_duration;

/// `afloat probe`
#[derive(Args, Clone, Debug)]
pub(crate) struct ProbeOptions {
    /// HOST:PORT, or svc/NAME or svc/NAME:PORT (a Service with a node port; needs a kubeconfig)
    pub(super) target: String,
    /// MODE, MODE=RATE, or MODE=RATE@HOST:PORT for another target; MODE is one of http, http-new, http2, grpc, grpc-stream,
    /// tcp, tcp-new (may be given several times) [default: http and http-new]
    #[arg(long = "mode", value_name = "MODE")]
    pub(super) modes: Vec<ModeRate>,
    /// Requests a second of each mode that has no rate of its own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) rate: u32,
    /// Connections that each mode keeps open, if it keeps any
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(super) connections: u16,
    /// Stop after that time [default: at Ctrl-C]
    #[arg(long, value_parser = parse_duration)]
    pub(super) duration: Option<Duration>,
    /// Stop after so many requests of each mode
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) requests: Option<u64>,
    /// A request that takes longer is lost
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub(super) timeout: Duration,
    /// Requests under way at once, over all modes; what finds no room is skipped and makes the result invalid
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) max_in_flight: u32,
    /// Send a request once more whose kept-alive connection was closed without an answer, as many clients do
    #[arg(long)]
    pub(super) retry_idle_close: bool,
    /// How long grpc-stream holds a stream open
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub(super) stream_for: Duration,
    /// Path of HTTP requests
    #[arg(long, default_value = "/", value_parser = parse_path)]
    pub(super) path: String,
    /// Kubeconfig of the cluster that the Service is in [default: $KUBECONFIG or ~/.kube/config, if a Service is named]
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long)]
    pub(super) context: Option<String>,
    /// Namespace of the Service [default: the context's]
    #[arg(short, long)]
    pub(super) namespace: Option<String>,
    /// Tell what happened to the pods of this Service around each loss [default: that of svc/NAME]
    #[arg(long, value_name = "NAME")]
    pub(super) service: Option<String>,
    /// Write response times before, during and after each rollout of the workloads behind the Service into its RolloutReport
    #[arg(long)]
    pub(super) record: bool,
    /// Exit with 1 if anything was lost, or skipped
    #[arg(long)]
    pub(super) fail_on_loss: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl ProbeOptions {
    /// How the probe itself is told.
    pub(super) fn probe(&self) -> Options {
        Options {
            connections: self.connections,
            timeout: self.timeout,
            max_in_flight: self.max_in_flight,
            retry_idle_close: self.retry_idle_close,
            stream_for: self.stream_for,
            path: self.path.clone(),
            duration: self.duration,
            requests: self.requests,
        }
    }
}

fn parse_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok() {
        Ok(text.to_owned())
    } else {
        Err("needs a path such as /healthz".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        assert!(parse_path("/a?b=c").is_ok());
        assert!(parse_path("a").is_err());
        assert!(parse_path("/a b").is_err());
    }
}
