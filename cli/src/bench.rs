//! `afloat bench operator`: what the operator costs, on simulated nodes; `afloat bench node`, see [`node`], and `afloat bench
//! lossless`, see [`lossless`].
//!
//! The operator's is three processes, so that each one's CPU time can be told apart: the API server (ours, unless a kubeconfig names
//! another), the operator, and this one, which plays the nodes and measures. Nothing of it is left when it ends: the
//! children die with it, the namespace and the nodes are taken away, the folder is removed.

mod child;
mod cluster;
mod figures;
mod lossless;
mod node;
mod options;
mod phases;
mod report;
mod scrape;
mod server;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::output;
use crate::process::logging::start_logging;
use crate::process::signals::Stop;
use child::{Child, Scratch};
use options::{BenchCommand, BenchOperatorOptions};
use phases::Bench;

pub(crate) use lossless::LosslessOptions;
pub(crate) use node::BenchNodeOptions;
pub(crate) use options::BenchOptions;

/// How long a child may take until it serves.
const START_LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run_bench(options: BenchOptions) -> anyhow::Result<i32> {
    match options.command {
        BenchCommand::Operator(options) => bench_operator(options),
        BenchCommand::Node(options) => node::bench_node(&options),
        BenchCommand::Lossless(options) => lossless::bench_lossless(&options),
        BenchCommand::Server { dir } => server::serve_alone(&dir),
        BenchCommand::Leash { parent, words } => child::leash(parent, &words),
    }
}

fn bench_operator(options: BenchOperatorOptions) -> anyhow::Result<i32> {
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
    let scratch = Scratch::new()?;
    let dir = scratch.path().to_owned();
    world.scratch = Some(scratch);
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let kubeconfig = match &options.kubeconfig {
        Some(path) => path.clone(),
        None => {
            let mut server = Child::start("API server", &own, &["bench", "server", "--dir"], Some(&dir), &dir)?;
            let started = server.first_line(START_LIMIT).await;
            world.server = Some(server);
            PathBuf::from(started?)
        }
    };
    let client = cluster::connect(&kubeconfig).await?;
    let version = cluster::version(&client, &kubeconfig).await?;
    let namespace = format!("afloat-bench-{}", std::process::id());
    cluster::no_other_operator(&client).await?;
    world.made = Some(cluster::Made::new(client.clone(), &namespace));
    if let Some(made) = &mut world.made {
        made.create().await?;
    }
    let fleet = afloat_sim::Fleet::start(
        client.clone(),
        afloat_sim::Options {
            nodes: options.nodes.unwrap_or_else(|| (options.pods / 100).clamp(1, 100)),
            name: namespace.clone(),
            start: options.container_start,
            bind: true,
            scheduler_name: Some(cluster::SCHEDULER.to_owned()),
            namespace: Some(namespace.clone()),
            ..afloat_sim::Options::default()
        },
    )
    .await
    .context("cannot make simulated nodes")?;
    world.fleet = Some(fleet);

    let address = scrape::free_address()?;
    let program = options.operator_binary.clone().unwrap_or(own);
    let operator = Child::start(
        "operator",
        &program,
        &[
            "operator",
            "--namespace",
            &namespace,
            "--lease-namespace",
            &namespace,
            "--metrics-address",
            &address.to_string(),
            "--kubeconfig",
        ],
        Some(&kubeconfig),
        &dir,
    )?;
    let pid = operator.pid();
    world.operator = Some(operator);
    scrape::until_ready(address, START_LIMIT).await.with_context(|| {
        let log = world.operator.as_ref().map(Child::log).unwrap_or_default();
        format!("the operator did not start: {log}")
    })?;
    let bench = Bench {
        options,
        client,
        namespace,
        address,
        operator: pid,
        server: world.server.as_ref().map(Child::pid),
    };
    let result = Arc::new(bench.run(&version).await.with_context(|| {
        let log = world.operator.as_ref().map(Child::log).unwrap_or_default();
        format!("operator's last words: {log}")
    })?);
    let text = if options.json {
        serde_json::to_string(&*result)? + "\n"
    } else {
        report::table(&result)
    };
    output::print(&text)?;
    Ok(0)
}
