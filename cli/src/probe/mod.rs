//! `afloat probe`: what a target loses, counted exactly.

mod record;
mod target;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use afloat_probe::watch::ServiceWatch;
use afloat_probe::{Counts, Lane, Mode, ModeRate, Options, Probe, Report, timeline};
use anyhow::Context as _;
use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::args::parse_duration;
use crate::output;

/// `afloat probe`
#[derive(Args, Clone, Debug)]
pub(crate) struct ProbeOptions {
    /// HOST:PORT, or svc/NAME or svc/NAME:PORT (a Service with a node port; needs a kubeconfig)
    target: String,
    /// MODE, MODE=RATE, or MODE=RATE@HOST:PORT for another target; MODE is one of http, http-new, http2, grpc, grpc-stream,
    /// tcp, tcp-new (may be given several times) [default: http and http-new]
    #[arg(long = "mode", value_name = "MODE")]
    modes: Vec<ModeRate>,
    /// Requests a second of each mode that has no rate of its own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Connections that each mode keeps open, if it keeps any
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=4096))]
    connections: u16,
    /// Stop after that time [default: at Ctrl-C]
    #[arg(long, value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Stop after so many requests of each mode
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// A request that takes longer is lost
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
    /// Requests under way at once, over all modes; what finds no room is skipped and makes the result invalid
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_in_flight: u32,
    /// Send a request once more whose kept-alive connection was closed without an answer, as many clients do
    #[arg(long)]
    retry_idle_close: bool,
    /// How long grpc-stream holds a stream open
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    stream_for: Duration,
    /// Path of HTTP requests
    #[arg(long, default_value = "/", value_parser = parse_path)]
    path: String,
    /// Kubeconfig of the cluster that the Service is in [default: $KUBECONFIG or ~/.kube/config, if a Service is named]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long)]
    context: Option<String>,
    /// Namespace of the Service [default: the context's]
    #[arg(short, long)]
    namespace: Option<String>,
    /// Tell what happened to the pods of this Service around each loss [default: that of svc/NAME]
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Write response times before, during and after each rollout of the Service's CloneSets into its RolloutReport
    #[arg(long)]
    record: bool,
    /// Exit with 1 if anything was lost, or skipped
    #[arg(long)]
    fail_on_loss: bool,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// 0, or 1 for losses (if asked to), or 2 where there is nothing to measure.
pub(crate) fn main(options: ProbeOptions) -> ExitCode {
    let fail_on_loss = options.fail_on_loss;
    match run_all(options) {
        Ok(report) if fail_on_loss && (report.lost > 0 || !report.valid) => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("afloat: {}", output::one_line(&error));
            ExitCode::from(2)
        }
    }
}

fn run_all(options: ProbeOptions) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(options))
}

async fn run(options: ProbeOptions) -> anyhow::Result<Report> {
    let mut signals = crate::inner::Stop::new()?;
    let cluster = target::Cluster::of(&options).await?;
    let lanes = lanes(&options, cluster.as_ref()).await?;
    let names: Vec<Mode> = lanes.iter().map(|lane| lane.mode).collect();
    let mut recorder = match (&cluster, options.record) {
        (Some(cluster), true) => Some(record::Recorder::start(&cluster.client, &cluster.service).await?),
        (None, true) => anyhow::bail!("--record needs --service NAME or the target svc/NAME"),
        (_, false) => None,
    };
    let watch = cluster.map(|c| ServiceWatch::start(&c.client, &c.service));
    let stop = CancellationToken::new();
    let mut probe = Probe::start(options.probe(), lanes, stop.clone())?;
    let live = std::io::stderr().is_terminal();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    {
        let mut waiting = std::pin::pin!(signals.requested());
        loop {
            tokio::select! {
                () = probe.wait() => break,
                _ = &mut waiting, if !stop.is_cancelled() => stop.cancel(),
                border = record::next(&mut recorder) => {
                    let window = probe.window();
                    if let Some(recorder) = &mut recorder {
                        recorder.pass(border, window);
                    }
                }
                _ = second.tick(), if live => eprint!("\r\x1b[K{}", line(&names, &probe.counts())),
            }
        }
    }
    if live {
        eprintln!();
    }
    let last = probe.window();
    let mut report = probe.finish().await;
    if let Some(recorder) = recorder {
        recorder.finish(last).await?;
    }
    if let Some(watch) = watch {
        report.happenings = watch.happenings();
        timeline::explain(&mut report.losses, &report.happenings);
    }
    let text = if options.json {
        serde_json::to_string(&report)? + "\n"
    } else {
        report.text()
    };
    output::print(&text)?;
    Ok(report)
}

impl ProbeOptions {
    fn probe(&self) -> Options {
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

async fn lanes(options: &ProbeOptions, cluster: Option<&target::Cluster>) -> anyhow::Result<Vec<Lane>> {
    let plain = |mode| ModeRate {
        mode,
        rate: None,
        target: None,
    };
    let modes = if options.modes.is_empty() {
        vec![plain(Mode::Http), plain(Mode::HttpNew)]
    } else {
        options.modes.clone()
    };
    let mut lanes = Vec::new();
    for mode in modes {
        let target = mode.target.as_deref().unwrap_or(&options.target);
        let (dial, authority) = target::dial(target, cluster)
            .await
            .with_context(|| format!("target {target}"))?;
        lanes.push(Lane {
            mode: mode.mode,
            rate: mode.rate.unwrap_or(options.rate),
            dial,
            authority,
        });
    }
    Ok(lanes)
}

/// What is known so far, on one line.
fn line(modes: &[Mode], counts: &[Counts]) -> String {
    let parts: Vec<String> = modes
        .iter()
        .zip(counts)
        .map(|(mode, c)| format!("{mode}: {} sent, {} ok, {} lost", c.sent, c.ok, c.lost.total()))
        .collect();
    parts.join("; ")
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
    fn the_live_line_names_each_mode() {
        let counts = Counts {
            sent: 3,
            ok: 2,
            ..Counts::default()
        };
        assert_eq!(line(&[Mode::Tcp], &[counts]), "tcp: 3 sent, 2 ok, 0 lost");
    }

    #[test]
    fn paths() {
        assert!(parse_path("/a?b=c").is_ok());
        assert!(parse_path("a").is_err());
        assert!(parse_path("/a b").is_err());
    }
}
