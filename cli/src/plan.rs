//! `afloat plan`: what applying changed objects will do.

mod apply;
mod configs;
mod gates;
mod images;

use std::path::PathBuf;
use std::process::ExitCode;

use afloat_api::{Gates, NodeImage, RolloutReport, read_seconds};
use afloat_check::Images;
use afloat_check::plan::{Forecast, Hold, Server, Situation, forecast, is_planned, text};
use afloat_words::owner::controller_of;
use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::Resource as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use apply::Applied;

use crate::check::{files, finish, images as stored, input, live};
use crate::options::cluster::{ClusterFlags, connect};
use crate::output;

/// `afloat plan`
#[derive(Args, Clone, Debug)]
pub(crate) struct PlanOptions {
    /// YAML or JSON with the objects as they shall be: a file, a folder, or - for standard input (may be given several times)
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The objects as they are [default: those of the cluster]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kubeconfig", "context", "namespace"])]
    pub(crate) against: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: ClusterFlags,
    /// Print the plans as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Data folder of `afloat up`, to tell which names are one image
    #[arg(long, env = "AFLOAT_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

pub(crate) fn run_plan(options: &PlanOptions) -> ExitCode {
    finish(print_plans(options))
}

/// What is there.
#[derive(Default)]
struct Present {
    object: Option<Value>,
    pods: Vec<Value>,
    revisions: Vec<Value>,
    budgets: Vec<Value>,
    /// ConfigMaps and Secrets that change, as they shall be and, where no cluster was asked, as they are.
    configs: (Vec<Value>, Vec<Value>),
    /// What of them cannot be told.
    untold: Vec<String>,
    /// See [`Situation::history`].
    history: Vec<u64>,
    /// What nodes tell of the images of both.
    images: Images,
    /// Those of the operator that is installed, as far as it is known.
    gates: Gates,
    /// What the cluster lets change on live pods.
    server: Server,
    /// What the API server would make of the new object, if it was asked.
    applied: Option<Applied>,
}

fn print_plans(options: &PlanOptions) -> anyhow::Result<u8> {
    let values = |read: Vec<input::Read>| read.into_iter().map(|object| object.value).collect::<Vec<_>>();
    let new: Vec<Value> = values(files::read(&options.files)?);
    let old = if options.against.is_empty() {
        None
    } else {
        Some(values(files::read(&options.against)?))
    };
    let known = stored::known(
        options.data_dir.as_deref(),
        &[new.as_slice(), old.as_deref().unwrap_or_default()].concat(),
    )?;
    let mut forecasts = Vec::new();
    for object in &objects(options, &new, old.is_none())? {
        let present = match &old {
            Some(old) => against(object, &new, old),
            None => ask(options, object, &new)?,
        };
        let (new, said) = match &present.applied {
            Some(Applied::Stored(stored)) => (stored, None),
            Some(Applied::Refused(why)) => (object, Some(format!("the API server would refuse it: {why}"))),
            Some(Applied::Unknown(why)) => (
                object,
                Some(format!(
                    "the API server could not be asked what it would store ({why}): fields that others have set count as removed"
                )),
            ),
            None => (object, None),
        };
        // What is here is known better than what nodes tell.
        let mut images = present.images.clone();
        images.extend(known.clone());
        let situation = Situation {
            old: present.object.as_ref(),
            new,
            pods: &present.pods,
            revisions: &present.revisions,
            configs: &present.configs.0,
            configs_before: &present.configs.1,
            budgets: &present.budgets,
            images: &images,
            history: &present.history,
            server: present.server,
            gates: present.gates,
            now: Timestamp::now(),
        };
        forecasts.extend(forecast(&situation).map(|mut forecast| {
            forecast
                .holds
                .extend(said.into_iter().chain(present.untold).map(Hold::Said));
            forecast
        }));
    }
    let printed = if options.json {
        format!("{:#}\n", json!({"plans": forecasts}))
    } else {
        forecasts.iter().map(|forecast: &Forecast| text(forecast)).collect()
    };
    output::print(&printed)?;
    Ok(0)
}

fn group(object: &Value) -> (&str, &str) {
    let api = object["apiVersion"].as_str().unwrap_or_default();
    api.split_once('/').unwrap_or(("", api))
}

/// The workloads that were given, and those of the cluster that roll out what was given.
fn objects(options: &PlanOptions, given: &[Value], asks: bool) -> anyhow::Result<Vec<Value>> {
    let mut objects: Vec<Value> = given.iter().filter(|object| is_planned(object)).cloned().collect();
    let nothing = objects.is_empty();
    if asks && given.iter().any(configs::is_config) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        objects.extend(runtime.block_on(async {
            let (client, namespace) = connect(&options.cluster).await?;
            configs::readers(&client, &namespace, given).await
        })?);
    }
    let what = if asks && nothing && given.iter().any(configs::is_config) {
        "no workload of the cluster that rolls out (annotation afloat.dev/config) what was given"
    } else {
        "no Deployment, StatefulSet or workload of apps.kruise.io in what was given"
    };
    anyhow::ensure!(!objects.is_empty(), what);
    Ok(objects)
}

/// The same object among others.
fn against(object: &Value, given: &[Value], others: &[Value]) -> Present {
    let namespace = |object: &Value| object["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    let configs = |objects: &[Value]| configs::of(objects, &namespace(object), "default");
    let same = others.iter().find(|other| {
        other["kind"] == object["kind"]
            && other["metadata"]["name"] == object["metadata"]["name"]
            && namespace(other) == namespace(object)
            && group(other).0 == group(object).0
    });
    let budgets = others.iter().filter(|other| other["kind"] == "PodDisruptionBudget");
    Present {
        object: same.cloned(),
        budgets: budgets.cloned().collect(),
        configs: (configs(given), configs(others)),
        ..Present::default()
    }
}

/// The object in the cluster, with what belongs to it.
fn ask(options: &PlanOptions, object: &Value, given: &[Value]) -> anyhow::Result<Present> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (client, namespace) = connect(&options.cluster).await?;
        let changed = configs::of(
            given,
            object["metadata"]["namespace"].as_str().unwrap_or(&namespace),
            &namespace,
        );
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&namespace);
        let (changed, untold) = configs::stored(&client, namespace, changed).await;
        let (group, version) = group(object);
        let kind = object["kind"].as_str().unwrap_or_default();
        let list = async |group, version, kind| {
            let found = live::list(&client, group, version, kind, Some(namespace)).await?;
            anyhow::Ok(found.unwrap_or_default())
        };
        let same = live::list(&client, group, version, kind, Some(namespace)).await?;
        let same = same.with_context(|| format!("the cluster has no {kind} in {group}/{version}"))?;
        let live = same
            .into_iter()
            .find(|other| other["metadata"]["name"] == object["metadata"]["name"]);
        let applied = match &live {
            // One that was found there is not applied.
            Some(live) if live != object => Some(apply::ask(&client, namespace, live, object).await),
            _ => None,
        };
        // Who may not see nodes knows less.
        let nodes = live::list(&client, NodeImage::GROUP, NodeImage::VERSION, NodeImage::KIND, None).await;
        let nodes: Vec<NodeImage> = nodes.ok().flatten().map(read).unwrap_or_default();
        let both: Vec<Value> = live.iter().chain([object]).cloned().collect();
        Ok(Present {
            configs: (changed, Vec::new()),
            untold,
            images: images::pulled(&afloat_check::references(&both), &nodes),
            gates: gates::installed(&client).await?,
            server: afloat_manager::server(&client)
                .await
                .context("asking for the server's version")?,
            applied,
            history: history(live.as_ref(), list("afloat.dev", "v1alpha1", "RolloutReport").await?),
            object: live,
            pods: list("", "v1", "Pod").await?,
            revisions: list("apps", "v1", "ControllerRevision").await?,
            budgets: list("policy", "v1", "PodDisruptionBudget").await?,
        })
    })
}

/// Those that can be read.
fn read<T: DeserializeOwned>(objects: Vec<Value>) -> Vec<T> {
    let objects = objects.into_iter();
    objects
        .filter_map(|object| serde_json::from_str(&object.to_string()).ok())
        .collect()
}

/// Seconds that a pod took in each of a workload's earlier rollouts in place, the latest last.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // seconds, rounded, not negative
fn history(live: Option<&Value>, reports: Vec<Value>) -> Vec<u64> {
    let reports = read::<RolloutReport>(reports).into_iter();
    let uid = live.and_then(|live| live["metadata"]["uid"].as_str());
    let ours = |report: &RolloutReport| {
        let owner = controller_of(&report.metadata);
        owner.is_some_and(|owner| Some(owner.uid.as_str()) == uid)
    };
    let mut reports: Vec<RolloutReport> = reports.filter(ours).collect();
    reports.sort_by_key(|report| report.status.started_at.as_ref().map(|at| at.0));
    let pod = |report: RolloutReport| {
        let steps = report.status.steps;
        let all = [&steps.drain, &steps.replace, &steps.back].map(|step| read_seconds(&step.mean));
        let sum: f64 = all.iter().flatten().sum();
        (sum > 0.0).then(|| sum.ceil() as u64)
    };
    reports.into_iter().filter_map(pod).collect()
}
