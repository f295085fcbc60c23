//! `afloat watch`: a rollout as it goes, and what it loses.

mod restart;
mod view;

use std::io::IsTerminal as _;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use afloat_api::{CloneSet, NodeTraffic, Phase, RolloutReport, Status as _};
use afloat_rollout::kinds::{self, KINDS, Visit};
use afloat_rollout::workload::foresight::Foreseen;
use afloat_rollout::workload::kind::Workload;
use afloat_watching::feed::{Pauses, events};
use anyhow::Context as _;
use clap::Args;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::options::cluster::{ClusterFlags, connect};
use crate::output;
use crate::process::signals::Stop;
pub(crate) use restart::{RestartOptions, run_restart};
use view::Seen;

/// Shortest time between two pictures.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the API server may take to show what there is at first.
const FIRST_LIMIT: Duration = Duration::from_secs(20);

/// `afloat watch`
#[derive(Args, Clone, Debug)]
pub(crate) struct WatchOptions {
    /// KIND/NAME, for example clone/web, or NAME of a CloneSet
    #[arg(value_parser = parse_target)]
    target: Target,
    #[command(flatten)]
    cluster: ClusterFlags,
    /// Show what is there and end
    #[arg(long, conflicts_with = "wait")]
    once: bool,
    /// End with the rollout: 0 when it is complete, 1 when it was stopped, or went back, for what it lost
    #[arg(long)]
    wait: bool,
}

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    kind: &'static str,
    name: String,
}

fn parse_target(text: &str) -> Result<Target, String> {
    let (kind, name) = text.split_once('/').unwrap_or((CloneSet::KIND, text));
    let Some(names) = kinds::called(kind) else {
        let all: Vec<_> = KINDS.iter().map(|names| names.kind.to_lowercase()).collect();
        return Err(format!(
            "{kind} is not watched: say KIND/NAME, where KIND is one of {}",
            all.join(", ")
        ));
    };
    if name.is_empty() || name.contains('/') {
        return Err("say KIND/NAME, for example clone/web".into());
    }
    Ok(Target {
        kind: names.kind,
        name: name.to_owned(),
    })
}

/// 0, or 1 where a rollout lost too much, or 2 where there is nothing to watch.
pub(crate) fn run_watch(options: &WatchOptions) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let Some(rollout) = kinds::with(options.target.kind, Following(options)) else {
        return failed(&anyhow::anyhow!("{} is not watched", options.target.kind));
    };
    match runtime.block_on(rollout) {
        Ok(code) => ExitCode::from(code),
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("afloat: {}", output::one_line(error));
    ExitCode::from(2)
}

/// Follows a rollout of whatever kind.
struct Following<'a>(&'a WatchOptions);

impl<'a> Visit for Following<'a> {
    type Out = LocalBoxFuture<'a, anyhow::Result<u8>>;
    fn visit<W: Foreseen>(self) -> Self::Out {
        follow_rollout::<W>(self.0).boxed_local()
    }
}

async fn follow_rollout<W: Foreseen>(options: &WatchOptions) -> anyhow::Result<u8> {
    let (client, namespace) = connect(&options.cluster).await?;
    let sets: Api<W> = Api::namespaced(client.clone(), &namespace);
    let (kind, name) = (W::KIND, &options.target.name);
    let set = tokio::time::timeout(FIRST_LIMIT, sets.get_opt(name)).await;
    let set = set
        .context("the API server does not answer")?
        .with_context(|| format!("cannot read {kind} {name}"))?;
    let set = set.with_context(|| format!("no {kind} {name} in namespace {namespace}"))?;
    let mut follow = Follow::<W>::start(&client, &namespace, name, &set.matcher().text()).await?;
    let mut signals = Stop::new()?;
    let mut stopped = pin!(signals.requested());
    let terminal = std::io::stdout().is_terminal() && !options.once;
    let mut last = String::new();
    loop {
        let seen = follow.seen();
        let Some(seen) = seen else {
            anyhow::bail!("{kind} {name} is gone");
        };
        if options.once {
            output::print(&view::picture(&seen, Timestamp::now(), usize::MAX))?;
            return Ok(0);
        }
        if terminal {
            // Home, the picture, and nothing of the one before.
            output::print(&format!("\x1b[H\x1b[J{}", view::picture(&seen, Timestamp::now(), 40)))?;
        } else {
            let line = view::line(&seen);
            if line != last {
                output::print(&format!("{} {line}\n", Timestamp::now().strftime("%H:%M:%S%.3f")))?;
                last = line;
            }
        }
        if let Some(end) = end(&seen).filter(|_| options.wait) {
            return Ok(end);
        }
        tokio::select! {
            () = follow.changed() => tokio::time::sleep(PAUSE).await,
            _ = &mut stopped => return Ok(0),
        }
    }
}

/// How a rollout ended, once it has.
fn end<W: Workload>(seen: &Seen<W>) -> Option<u8> {
    let set = &*seen.set;
    if set.metadata().generation != Some(set.status().observed_generation()) {
        return None;
    }
    match seen.report().map(|report| report.status.phase) {
        Some(Phase::LossExceeded | Phase::RolledBack | Phase::Superseded) => Some(1),
        Some(Phase::Progressing | Phase::RollingBack) => None,
        Some(Phase::Completed | Phase::Paused) | None => {
            let figures = set.figures();
            (figures.updated_available >= figures.expected).then_some(0)
        }
    }
}

/// What is followed.
struct Follow<W: Workload> {
    sets: Store<W>,
    pods: Store<Pod>,
    nodes: Store<Node>,
    traffic: Option<Store<NodeTraffic>>,
    reports: Option<Store<RolloutReport>>,
    news: mpsc::Receiver<()>,
    _tasks: JoinSet<()>,
}

impl<W: Workload> Follow<W> {
    async fn start(client: &Client, namespace: &str, name: &str, selector: &str) -> anyhow::Result<Self> {
        // One token is enough to say that something has changed.
        let (told, news) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        let sets = Api::namespaced(client.clone(), namespace);
        let sets = start(
            &mut tasks,
            sets,
            Config::default().fields(&format!("metadata.name={name}")),
            &told,
        );
        let pods = Api::namespaced(client.clone(), namespace);
        let pods = start(&mut tasks, pods, Config::default().labels(selector), &told);
        let nodes = start(&mut tasks, Api::all(client.clone()), Config::default(), &told);
        let kinds = afloat_manager::kinds(client)
            .await
            .context("cannot ask what the API server serves")?;
        let traffic = kinds
            .contains(NodeTraffic::KIND)
            .then(|| start(&mut tasks, Api::all(client.clone()), Config::default(), &told));
        let reports = Api::namespaced(client.clone(), namespace);
        let reports = kinds
            .contains(RolloutReport::KIND)
            .then(|| start(&mut tasks, reports, Config::default(), &told));
        let follow = Self {
            sets,
            pods,
            nodes,
            traffic,
            reports,
            news,
            _tasks: tasks,
        };
        let first = async {
            follow.sets.wait_until_ready().await?;
            follow.pods.wait_until_ready().await?;
            follow.nodes.wait_until_ready().await?;
            if let Some(traffic) = &follow.traffic {
                traffic.wait_until_ready().await?;
            }
            if let Some(reports) = &follow.reports {
                reports.wait_until_ready().await?;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(FIRST_LIMIT, first).await.context("the API server does not show what there is; may this user list pods, nodes, nodetraffics and rolloutreports?")??;
        Ok(follow)
    }

    async fn changed(&mut self) {
        if self.news.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    fn seen(&self) -> Option<Seen<W>> {
        let ready = |node: &Node| {
            let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
            conditions
                .clone()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        let nodes = self.nodes.state();
        let reports = self.reports.iter().flat_map(Store::state);
        let traffic = self.traffic.iter().flat_map(Store::state);
        Some(Seen {
            set: self.sets.state().into_iter().next()?,
            pods: self.pods.state(),
            nodes: nodes
                .iter()
                .filter(|node| ready(node))
                .filter_map(|node| node.metadata.name.clone())
                .collect(),
            traffic: traffic.collect(),
            reports: reports.collect(),
        })
    }
}

/// Keeps what there is of a kind, and tells of each change.
fn start<K>(tasks: &mut JoinSet<()>, api: Api<K>, config: Config, told: &mpsc::Sender<()>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
{
    let writer = Writer::<K>::default();
    let store = writer.as_reader();
    let told = told.clone();
    let stream = reflector::reflector(writer, events(api, config, Pauses::Patient).map(Ok));
    tasks.spawn(FutureExt::boxed(async move {
        let mut stream = pin!(stream);
        while stream.next().await.is_some() {
            let _ = told.try_send(());
        }
    }));
    store
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_is_named_as_for_kubectl() {
        let target = |kind, name: &str| Target {
            kind,
            name: name.into(),
        };
        assert_eq!(parse_target("web"), Ok(target("CloneSet", "web")));
        assert_eq!(parse_target("clone/web"), Ok(target("CloneSet", "web")));
        assert_eq!(
            parse_target("daemonsets.apps.kruise.io/log"),
            Ok(target("DaemonSet", "log"))
        );
        for wrong in ["deployment/web", "clone/", "clone/a/b", ""] {
            assert!(parse_target(wrong).is_err(), "{wrong:?}");
        }
    }
}
