//! Hostile clients, pods and images beside somebody who only wants an answer, on a running `afloat up`: what each kind of attack costs
//! the others, and how much memory it takes. What is held are counts: the process lives, the others were answered, the memory has a limit.
//!
//! The table for the program that users have:
//! `cargo build --release && AFLOAT_PROGRAM=target/release/afloat cargo e2e security::attacks -- --nocapture`
//! (`AFLOAT_ATTACKS=word`: only those with that word in their names).

mod bystander;
mod connections;
mod door;
mod pods;
mod requests;
mod world;

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;

use crate::cluster::{AFLOAT, Cluster, ONLINE};
use crate::network::build_images;
use crate::registry::Registry;
use crate::restart::inner_pid;
use bystander::{Bystander, Seen};
use door::Door;
use world::World;

/// Memory of the whole cluster, in MiB, at every attack.
const MEMORY: u64 = 150;
/// What the same program takes more without optimization: its code is four times as large, its futures and stacks several times.
const UNOPTIMIZED: u64 = 150;
type Attack = for<'a> fn(&'a World, &'a Bystander) -> BoxFuture<'a, ()>;

const ATTACKS: [(&str, Attack); 23] = [
    ("nothing at all", |_, others| Box::pin(others.rounds(20))),
    ("malformed objects", |world, _| Box::pin(requests::malformed(world))),
    ("deep documents", |world, _| Box::pin(requests::deep(world))),
    ("large objects", |world, _| Box::pin(requests::large(world))),
    ("doubling documents", |world, _| Box::pin(requests::doubling(world))),
    ("merges of long lists", |world, _| Box::pin(requests::merges(world))),
    ("costly expressions", |world, _| Box::pin(requests::expressions(world))),
    ("large regular expressions", |world, _| {
        Box::pin(requests::patterns(world))
    }),
    ("large definitions", |world, _| Box::pin(requests::schemas(world))),
    ("selectors that match nothing", |world, _| {
        Box::pin(requests::selectors(world))
    }),
    ("slow readers of lists", |world, others| {
        Box::pin(connections::readers(world, others))
    }),
    ("unread streams", |world, others| {
        Box::pin(connections::streams(world, others))
    }),
    ("slow watches", |world, others| {
        Box::pin(connections::watchers(world, others))
    }),
    ("many watches", |world, others| {
        Box::pin(connections::watches(world, others))
    }),
    ("silent connections", |world, others| {
        Box::pin(connections::silent(world, others))
    }),
    ("idle connections", |world, others| {
        Box::pin(connections::idle(world, others))
    }),
    ("dribbling bodies", |world, others| {
        Box::pin(connections::dribbles(world, others))
    }),
    ("requests taken back", |world, others| {
        Box::pin(connections::resets(world, others))
    }),
    ("doubling variables", |world, others| {
        Box::pin(pods::variables(world, others))
    }),
    ("endless output", |world, others| Box::pin(pods::output(world, others))),
    ("deep folders", |world, others| Box::pin(pods::folders(world, others))),
    ("endless probes", |world, others| Box::pin(pods::probes(world, others))),
    ("dishonest images", |world, others| {
        Box::pin(pods::images(world, others))
    }),
];

/// Attacks on what the server keeps, which is why they come last.
const LAST: [(&str, Attack); 1] = [("a long history", |world, _| Box::pin(requests::history(world)))];

/// Memory of a process in MiB: as it is, and the most it has been since [`forget_peak`].
fn memory(pid: u32, what: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_suffix("kB"));
    line.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or_default() >> 10
}

/// See `clear_refs` in proc(5).
fn forget_peak(pid: u32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("our own process");
}

/// One line of the table.
fn row(name: &str, took: Duration, seen: &Seen, before: u64, peak: u64) -> String {
    let ms = |duration: Duration| duration.as_millis();
    format!(
        "{name:30} {:8.1} {:8} {:8} {:8} {:8} {:8} {:6} {:6}",
        took.as_secs_f64(),
        ms(seen.read),
        ms(seen.write),
        ms(seen.large),
        ms(seen.new),
        seen.answered,
        before,
        peak
    )
}

fn attack(world: &World, runtime: &tokio::runtime::Runtime, attacks: &[(&str, Attack)]) {
    let own = std::env::var_os("AFLOAT_PROGRAM").is_none() && cfg!(debug_assertions);
    let limit = MEMORY + if own { UNOPTIMIZED } else { 0 };
    let chosen = std::env::var("AFLOAT_ATTACKS").unwrap_or_default();
    let mut table = String::from(
        "ATTACK                          SECONDS  READ MS WRITE MS LARGE MS   NEW MS ANSWERED BEFORE   PEAK MIB\n",
    );
    let mut faults = Vec::new();
    for (name, attack) in attacks.iter().filter(|(name, _)| name.contains(&chosen)) {
        let inner = inner_pid(world.cluster.pid()).expect("the cluster lives");
        let before = memory(inner, "VmRSS:");
        forget_peak(inner);
        let others = Bystander::start(&world.door);
        let began = Instant::now();
        runtime.block_on(attack(world, &others));
        let took = began.elapsed();
        let seen = others.finish();
        let peak = memory(inner, "VmHWM:");
        let line = row(name, took, &seen, before, peak);
        eprintln!("{line}");
        let _ = writeln!(table, "{line}");
        if inner_pid(world.cluster.pid()) != Some(inner) {
            faults.push(format!("{name}: the process ended"));
        }
        if seen.answered == 0 || !seen.failed.is_empty() {
            let few = &seen.failed[..seen.failed.len().min(5)];
            faults.push(format!("{name}: {} not served: {few:?}", seen.failed.len()));
        }
        if peak > limit {
            faults.push(format!("{name}: {peak} MiB, of {limit}"));
        }
        if seen.longest() > Duration::from_secs(1) {
            eprintln!("{name}: others waited for {:?}", seen.longest());
        }
    }
    eprintln!("\n{table}");
    assert!(faults.is_empty(), "{table}\n{}", faults.join("\n"));
}

fn runtime() -> tokio::runtime::Runtime {
    let mut files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    files.current = files.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, files).expect("its own limit");
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
}

fn program() -> Command {
    Command::new(std::env::var_os("AFLOAT_PROGRAM").unwrap_or_else(|| AFLOAT.into()))
}

#[test]
fn attacks_stop_nobody() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let Some(cluster) = Cluster::boot_as(program(), &folder.path().join("data"), 1, &[ONLINE]) else {
        return;
    };
    if !build_images(&cluster) {
        return;
    }
    let world = World {
        door: Door::of(cluster.dir()),
        registry: Registry::start(),
        cluster,
    };
    let all: Vec<_> = ATTACKS.into_iter().chain(LAST).collect();
    attack(&world, &runtime, &all);
}

/// With as few descriptors as a process can have, connections do not take those that pods need.
#[test]
fn connections_leave_descriptors_to_pods() {
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    let mut few = Command::new("bash");
    few.args(["-c", "ulimit -n 256; exec \"$0\" \"$@\""])
        .arg(program().get_program());
    let Some(cluster) = Cluster::boot_as(few, &folder.path().join("data"), 1, &[]) else {
        return;
    };
    if !build_images(&cluster) {
        return;
    }
    let world = World {
        door: Door::of(cluster.dir()),
        registry: Registry::start(),
        cluster,
    };
    let one: (&str, Attack) = ("connections at ulimit -n 256", |world, others| {
        Box::pin(pods::beside_connections(world, others))
    });
    attack(&world, &runtime, &[one]);
}
