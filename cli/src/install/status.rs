//! `afloat status`: whether what is installed works, and what to do where it does not.
//!
//! [`seen`] asks the API server, [`judge()`] says what it means and is a function of the answers, this prints it. Nothing is written
//! to the cluster but questions about rights.

mod judge;
mod seen;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::options::cluster::config;
use crate::output;
use judge::{Line, State, judge};

/// Longest time for all questions together.
const LIMIT: Duration = Duration::from_secs(60);

/// `afloat status`
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusOptions {
    /// Kubeconfig of a cluster [default: $KUBECONFIG, ~/.kube/config, or the pod's own account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context in the kubeconfig
    #[arg(long)]
    context: Option<String>,
    /// Where it is installed
    #[arg(short, long, default_value = afloat_install::NAMESPACE)]
    namespace: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = StatusFormat::Text)]
    output: StatusFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StatusFormat {
    Text,
    Json,
}

/// 0 where nothing has failed, else 1.
pub(crate) fn run_status(options: &StatusOptions) -> ExitCode {
    match status(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("afloat: {}", output::one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn status(options: &StatusOptions) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(async {
        let config = config(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
        let seen = tokio::time::timeout(LIMIT, seen::look(config, &options.namespace)).await;
        seen.context("the API server does not answer in time")?
    })?;
    let lines = judge(&seen);
    let text = match options.output {
        StatusFormat::Text => text(&lines),
        StatusFormat::Json => format!("{:#}\n", as_json(&lines)),
    };
    output::print(&text)?;
    Ok(!failed(&lines))
}

fn failed(lines: &[Line]) -> bool {
    lines.iter().any(|line| line.state == State::Failure)
}

fn text(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        text.push_str(&format!("{:7}  {:9}  {}\n", line.state.word(), line.about, line.says));
        if let Some(remedy) = &line.remedy {
            text.push_str(&format!("{:20}-> {remedy}\n", ""));
        }
    }
    let count = |state| lines.iter().filter(|line| line.state == state).count();
    let (failures, warnings) = (count(State::Failure), count(State::Warning));
    text.push_str(&match (failures, warnings) {
        (0, 0) => "All is well.\n".to_owned(),
        (0, warnings) => format!("It works; warnings: {warnings}.\n"),
        (failures, warnings) => format!("It does not work; failures: {failures}, warnings: {warnings}.\n"),
    });
    text
}

fn as_json(lines: &[Line]) -> Value {
    let line = |line: &Line| {
        let mut value = json!({"about": line.about, "state": line.state.word(), "message": line.says});
        if let Some(remedy) = &line.remedy {
            value["remedy"] = json!(remedy);
        }
        value
    };
    json!({"ok": !failed(lines), "version": env!("CARGO_PKG_VERSION"), "checks": lines.iter().map(line).collect::<Vec<_>>()})
}
