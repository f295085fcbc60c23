//! `afloat bench operator`: what the operator costs, on simulated nodes.
//!
//! Three processes, so that each one's CPU time can be told apart: the API server (ours, unless a kubeconfig names another), the
//! operator, and this one, which plays the nodes and measures. Nothing of it is left when it ends: the children die with it, the
//! namespace and the nodes are taken away, the folder is removed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use kube::Client;

use super::child::{Child, Scratch};
use super::options::{BenchOperatorOptions, KubeletStatuses};
use super::phases::Bench;
use super::{cluster, report, scrape};
use crate::output;
use crate::process::logging::start_logging;
use crate::process::signals::Stop;

/// As many as `--nodes` may say.
const MOST_NODES: u32 = 1000;
/// How long a child may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn bench_operator(options: BenchOperatorOptions) -> anyhow::Result<i32> {
    start_logging("error");
    if options.sets > options.pods {
        anyhow::bail!("--sets {} is more than --pods {}", options.sets, options.pods);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut stop = Stop::new()?;
        let mut world = World::default();
        let outcome = tokio::select! {
            result = measure_operator(&options, &mut world) => result,
            code = stop.requested() => {
                eprintln!("afloat: stopping, and taking away what was made");
                Ok(code)
            }
        };
        // A second signal ends the tidying, too; the children die with this process all the same.
        tokio::select! {
            () = world.dissolve() => {}
            code = stop.requested() => return Ok(code),
        }
        outcome
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// How many nodes are simulated.
fn nodes(options: &BenchOperatorOptions) -> anyhow::Result<u32> {
    if !options.kind.per_node {
        return Ok(options.nodes.unwrap_or_else(|| (options.pods / 100).clamp(1, 100)));
    }
    let (pods, sets) = (options.pods, options.sets);
    let nodes = pods / sets;
    let all = options.nodes.is_none_or(|stated| stated == nodes) && pods.is_multiple_of(sets);
    anyhow::ensure!(
        all && nodes <= MOST_NODES,
        "each of --sets {sets} has a pod on every node, so --pods has to be that many times --nodes, which is {MOST_NODES} at most"
    );
    Ok(nodes)
}

/// What has to be taken away at the end, in this order.
#[derive(Default)]
struct World {
    operator: Option<Child>,
    made: Option<cluster::Made>,
    fleet: Option<afloat_sim::Fleet>,
    server: Option<Child>,
    scratch: Option<Scratch>,
}

impl World {
    fn make_scratch(&mut self) -> anyhow::Result<PathBuf> {
        let scratch = Scratch::new()?;
        let dir = scratch.path().to_owned();
        self.scratch = Some(scratch);
        Ok(dir)
    }

    /// Starts an API server of ours, and gives the path of its kubeconfig.
    async fn start_server(&mut self, own: &Path, dir: &Path) -> anyhow::Result<PathBuf> {
        let mut server = Child::start("API server", own, &["bench", "server", "--dir"], Some(dir), dir)?;
        let started = server.first_line(START_LIMIT).await;
        self.server = Some(server);
        Ok(PathBuf::from(started?))
    }

    async fn make_namespace(
        &mut self,
        client: &Client,
        namespace: &str,
        options: &BenchOperatorOptions,
    ) -> anyhow::Result<()> {
        let made = cluster::Made::new(client.clone(), namespace, options.kind, options.api_version);
        let made = self.made.insert(made);
        made.create().await
    }

    async fn start_fleet(
        &mut self,
        client: Client,
        namespace: &str,
        options: &BenchOperatorOptions,
    ) -> anyhow::Result<()> {
        let fleet = afloat_sim::Options {
            nodes: nodes(options)?,
            name: namespace.to_owned(),
            start: options.container_start,
            bind: true,
            scheduler_name: Some(cluster::SCHEDULER.to_owned()),
            namespace: Some(namespace.to_owned()),
            statuses: match options.statuses {
                KubeletStatuses::Each => afloat_sim::Statuses::EachStep,
                KubeletStatuses::Merged => afloat_sim::Statuses::Merged,
            },
            ..afloat_sim::Options::default()
        };
        let fleet = afloat_sim::Fleet::start(client, fleet).await;
        self.fleet = Some(fleet.context("cannot make simulated nodes")?);
        Ok(())
    }

    /// Starts the operator, waits until it acts, and gives its process id and the address of its metrics.
    async fn start_operator(
        &mut self,
        program: &Path,
        namespace: &str,
        kubeconfig: &Path,
        dir: &Path,
    ) -> anyhow::Result<(u32, SocketAddr)> {
        let address = scrape::free_address()?;
        let text = address.to_string();
        let arguments = ["operator", "--namespace", namespace, "--lease-namespace", namespace];
        let arguments = [&arguments[..], &["--metrics-address", &text, "--kubeconfig"]].concat();
        let operator = Child::start("operator", program, &arguments, Some(kubeconfig), dir)?;
        let pid = operator.pid();
        self.operator = Some(operator);
        let ready = scrape::until_ready(address, START_LIMIT).await;
        ready.with_context(|| format!("the operator did not start: {}", self.last_words()))?;
        Ok((pid, address))
    }

    /// What the operator said last.
    fn last_words(&self) -> String {
        self.operator.as_ref().map(Child::log).unwrap_or_default()
    }

    async fn dissolve(self) {
        if let Some(operator) = self.operator {
            operator.stop().await;
        }
        // Our own API server takes everything with it.
        if self.server.is_none() {
            if let Some(made) = self.made {
                made.remove().await;
            }
            if let Some(fleet) = self.fleet {
                fleet.stop().await;
            }
        }
        if let Some(server) = self.server {
            server.stop().await;
        }
        drop(self.scratch);
    }
}

async fn measure_operator(options: &BenchOperatorOptions, world: &mut World) -> anyhow::Result<i32> {
    let dir = world.make_scratch()?;
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let kubeconfig = match &options.kubeconfig {
        Some(path) => path.clone(),
        None => world.start_server(&own, &dir).await?,
    };
    let client = cluster::connect(&kubeconfig).await?;
    let version = cluster::version(&client, &kubeconfig).await?;
    let namespace = format!("afloat-bench-{}", std::process::id());
    cluster::no_other_operator(&client).await?;
    world.make_namespace(&client, &namespace, options).await?;
    world.start_fleet(client.clone(), &namespace, options).await?;
    let program = options.operator_binary.as_ref().unwrap_or(&own);
    let (operator, address) = world.start_operator(program, &namespace, &kubeconfig, &dir).await?;
    let bench = Bench {
        options,
        client,
        namespace,
        address,
        operator,
        server: world.server.as_ref().map(Child::pid),
    };
    let result = bench.measure(&version).await;
    let result = result.with_context(|| format!("operator's last words: {}", world.last_words()))?;
    let text = if options.json {
        serde_json::to_string(&result)? + "\n"
    } else {
        report::table(&result)
    };
    output::print(&text)?;
    Ok(0)
}
