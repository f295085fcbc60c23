//! `afloat probe`: what a target loses, counted exactly.

mod options;
mod record;
mod target;

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use afloat_probe::watch::ServiceWatch;
use afloat_probe::{Counts, Lane, Mode, ModeRate, Probe, Report, timeline};
use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::output;
use crate::process::signals::Stop;

pub(crate) use options::ProbeOptions;

/// 0, or 1 for losses (if asked to), or 2 where there is nothing to measure.
pub(crate) fn run_probe(options: ProbeOptions) -> ExitCode {
    let fail_on_loss = options.fail_on_loss;
    match measure_to_the_end(options) {
        Ok(report) if fail_on_loss && (report.lost > 0 || !report.valid) => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("afloat: {}", output::one_line(&error));
            ExitCode::from(2)
        }
    }
}

fn measure_to_the_end(options: ProbeOptions) -> anyhow::Result<Report> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(options))
}

async fn measure(options: ProbeOptions) -> anyhow::Result<Report> {
    let mut signals = Stop::new()?;
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
}
