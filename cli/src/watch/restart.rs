//! `afloat restart`: containers are started anew where they are. Of a whole workload by its own rollout, so that budget, order,
//! partition and drains hold; of one pod by a ContainerRecreateRequest.

mod containers;
mod pod;
mod progress;
mod workload;

use std::process::ExitCode;
use std::time::Duration;

use afloat_rollout::kinds::{self, KINDS};
use clap::Args;

use crate::check::finish;
use crate::options::cluster::{ClusterFlags, connect};
use pod::PodFlags;
use workload::Asked;

/// `afloat restart`
#[derive(Args, Clone, Debug)]
pub(crate) struct RestartOptions {
    /// KIND/NAME of a workload, for example clone/web: all pods in place, within its budget; pod/NAME: one pod, at once
    #[arg(value_parser = parse_target)]
    target: Target,
    /// Only this container (may be given several times) [default: all of spec.containers]
    #[arg(short, long = "container", value_name = "NAME")]
    containers: Vec<String>,
    #[command(flatten)]
    cluster: ClusterFlags,
    /// Show how it goes, and end with it: 0 when all are back, 1 when they are not
    #[arg(long)]
    wait: bool,
    /// With --wait: how long at most
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "wait")]
    timeout: u64,
    #[command(flatten)]
    pod: PodFlags,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// Kind, as objects call it, and name.
    Workload(&'static str, String),
    Pod(String),
}

fn parse_target(text: &str) -> Result<Target, String> {
    let words = || {
        let all: Vec<_> = KINDS.iter().map(|names| names.kind.to_lowercase()).collect();
        format!("say KIND/NAME, where KIND is pod or one of {}", all.join(", "))
    };
    let (kind, name) = text.split_once('/').ok_or_else(words)?;
    if name.is_empty() || name.contains('/') {
        return Err(words());
    }
    if ["po", "pod", "pods"].contains(&kind) {
        return Ok(Target::Pod(name.to_owned()));
    }
    let names = kinds::called(kind).ok_or_else(|| format!("{kind} has no rollout of the operator's: {}", words()))?;
    Ok(Target::Workload(names.kind, name.to_owned()))
}

/// 0, or 1 where not everything came back, or 2 where nothing was asked for.
pub(crate) fn run_restart(options: &RestartOptions) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    finish(
        runtime
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(restart(options))),
    )
}

async fn restart(options: &RestartOptions) -> anyhow::Result<u8> {
    let (client, namespace) = connect(&options.cluster).await?;
    let limit = options.wait.then(|| Duration::from_secs(options.timeout));
    match &options.target {
        Target::Pod(name) => {
            let asked = pod::ask(&client, (&namespace, name), &options.containers, &options.pod).await?;
            match limit {
                Some(limit) => pod::wait(&client, &asked, limit).await,
                None => Ok(0),
            }
        }
        Target::Workload(kind, name) => {
            if let Some(flag) = options.pod.given() {
                anyhow::bail!("{flag} is for a single pod: a workload's update strategy says how its pods are updated");
            }
            let asked = Asked {
                client: &client,
                namespace: &namespace,
                name,
                containers: &options.containers,
                limit,
            };
            match kinds::with(kind, asked) {
                Some(restart) => restart.await,
                None => anyhow::bail!("{kind} has no rollout of the operator's"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        assert_eq!(
            parse_target("clone/web"),
            Ok(Target::Workload("CloneSet", "web".into()))
        );
        assert_eq!(parse_target("ads/log"), Ok(Target::Workload("DaemonSet", "log".into())));
        assert_eq!(parse_target("po/web-1"), Ok(Target::Pod("web-1".into())));
        for bad in ["web", "clone/", "pod/a/b", "deploy/web", "/"] {
            assert!(parse_target(bad).unwrap_err().contains("say KIND/NAME"), "{bad}");
        }
    }
}
