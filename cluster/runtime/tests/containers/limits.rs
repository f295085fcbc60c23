//! Limits of containers, seen from inside: they are set, they hold, and they go with the container.

use std::path::PathBuf;

use afloat_runtime::host::Inherited;
use afloat_runtime::{Cgroups, ContainerState, ExecSpec, Resources, Runtime as _};
use anyhow::{Context as _, ensure};
use tokio::io::AsyncReadExt as _;
use tokio::signal::unix::Signal;

use crate::inner::{Inside, LOOP};

/// Doubles a string until somebody objects.
const GREEDY: &str = "x=0123456789abcdef; while :; do x=$x$x; done";
const LIMITED: Resources = Resources {
    memory_limit_bytes: Some(64 << 20),
    cpu_shares: Some(256),
    cpu_quota_us: Some(50_000),
    pids_limit: Some(100),
};

pub(crate) async fn play(inside: &Inside, inherited: &Inherited, term: &mut Signal) -> anyhow::Result<()> {
    if let Some(ids) = look(inside, inherited).await? {
        term.recv().await;
        remove(inside, inherited, &ids).await?;
    }
    Ok(())
}

/// Ids of a limited and an unlimited container that run; None where there are no cgroups.
async fn look(inside: &Inside, inherited: &Inherited) -> anyhow::Result<Option<[String; 2]>> {
    inside.sandbox().await?;
    ensure!(inside.runtime.unlimited().as_deref() == inherited.cgroups.unavailable());
    if let Some(reason) = inherited.cgroups.unavailable() {
        let id = start(inside, "short", "exit 4").await?;
        let end = inside.end_of(&id).await?;
        ensure!(end.code == 4 && !end.oom_killed, "{end:?}");
        inside.runtime.remove_container(&id).await?;
        println!("limits none: {reason}");
        return Ok(None);
    }
    let limited = start(inside, "limited", LOOP).await?;
    let unlimited = inside.start("unlimited", 0, LOOP).await?;
    for dir in dirs(&inherited.cgroups, &limited) {
        ensure!(dir.is_dir(), "{} is missing", dir.display());
    }
    hold(&inherited.cgroups, &limited, &LIMITED)?;
    change(inside, &inherited.cgroups, &limited).await?;
    begin(inside, &inherited.cgroups).await?;
    ensure!(
        processes(inside, &limited).await?.contains(&limited),
        "a command shares the limits"
    );
    ensure!(!processes(inside, &unlimited).await?.contains(&unlimited));
    for dir in dirs(&inherited.cgroups, &unlimited) {
        ensure!(!dir.exists(), "{} is for nothing", dir.display());
    }
    let greedy = start(inside, "greedy", GREEDY).await?;
    let end = inside.end_of(&greedy).await?;
    ensure!((end.code, end.signal, end.oom_killed) == (137, 9, true), "{end:?}");
    remove(inside, inherited, &[greedy]).await?;
    let fine = start(inside, "fine", "exit 0").await?;
    ensure!(!inside.end_of(&fine).await?.oom_killed);
    remove(inside, inherited, &[fine]).await?;
    println!("limits of {limited}");
    Ok(Some([limited, unlimited]))
}

/// What stands in the container's cgroups.
fn hold(cgroups: &Cgroups, id: &str, resources: &Resources) -> anyhow::Result<()> {
    let text = |value: Option<u64>| value.map(|value| value.to_string()).unwrap_or_default();
    let (memory, quota) = (text(resources.memory_limit_bytes), text(resources.cpu_quota_us));
    let values = match cgroups {
        Cgroups::V1 { .. } => vec![
            ("memory.limit_in_bytes", memory),
            ("cpu.shares", text(resources.cpu_shares)),
            ("cpu.cfs_quota_us", quota),
            ("pids.max", text(resources.pids_limit)),
        ],
        _ => vec![("memory.max", memory), ("cpu.max", format!("{quota} 100000"))],
    };
    for (file, expected) in values {
        let found = dirs(cgroups, id)
            .iter()
            .find_map(|dir| std::fs::read_to_string(dir.join(file)).ok());
        ensure!(
            found.as_deref().is_none_or(|v| v.trim() == expected),
            "{file}: {found:?}, not {expected}"
        );
    }
    Ok(())
}

/// Limits of a container that runs go up and down, but memory not below what it uses.
async fn change(inside: &Inside, cgroups: &Cgroups, id: &str) -> anyhow::Result<()> {
    for (memory, cpu) in [(96 << 20, 2), (80 << 20, 1), (64 << 20, 4)] {
        let new = Resources {
            memory_limit_bytes: Some(memory),
            cpu_shares: Some(128 * cpu),
            cpu_quota_us: Some(25_000 * cpu),
            ..LIMITED
        };
        inside.runtime.update_container(id, &new).await?;
        hold(cgroups, id, &new)?;
    }
    let tiny = Resources {
        memory_limit_bytes: Some(4096),
        ..LIMITED
    };
    ensure!(
        inside.runtime.update_container(id, &tiny).await.is_err(),
        "it uses more"
    );
    inside.runtime.update_container(id, &LIMITED).await?;
    hold(cgroups, id, &LIMITED)?;
    let running = inside.runtime.containers().await?;
    let running = running.iter().find(|c| c.id == id).context("it is there")?;
    ensure!(running.state == ContainerState::Running, "{:?}", running.state);
    Ok(())
}

/// A container that had no limits gets some while it runs, with everything that runs in it.
async fn begin(inside: &Inside, cgroups: &Cgroups) -> anyhow::Result<()> {
    let id = inside.start("late", 0, LOOP).await?;
    inside.runtime.update_container(&id, &LIMITED).await?;
    hold(cgroups, &id, &LIMITED)?;
    for dir in dirs(cgroups, &id) {
        let inhabitants = std::fs::read_to_string(dir.join("cgroup.procs"))?;
        ensure!(!inhabitants.is_empty(), "nobody is in {}", dir.display());
    }
    inside.runtime.signal_container(&id, "SIGKILL").await?;
    inside.end_of(&id).await?;
    let refused = inside.runtime.update_container(&id, &LIMITED).await;
    ensure!(refused.is_err(), "it has ended");
    inside.runtime.remove_container(&id).await?;
    Ok(())
}

/// A container that is killed for its memory while there is no inner process to see it.
pub(crate) async fn before_crash(inside: &Inside, inherited: &Inherited) -> anyhow::Result<()> {
    if inherited.cgroups.unavailable().is_none() {
        start(inside, "greedy", &format!("sleep 0.05; {GREEDY}")).await?;
    }
    Ok(())
}

pub(crate) async fn after_crash(inside: &Inside, inherited: &Inherited) -> anyhow::Result<()> {
    if inherited.cgroups.unavailable().is_some() {
        return Ok(());
    }
    let containers = inside.runtime.containers().await?;
    let greedy = containers.iter().find(|c| c.name == "greedy").context("greedy")?;
    let end = inside.end_of(&greedy.id).await?;
    ensure!((end.code, end.oom_killed) == (137, true), "{end:?}");
    remove(inside, inherited, std::slice::from_ref(&greedy.id)).await
}

async fn remove(inside: &Inside, inherited: &Inherited, ids: &[String]) -> anyhow::Result<()> {
    for id in ids {
        inside.runtime.signal_container(id, "SIGKILL").await?;
        inside.end_of(id).await?;
        inside.runtime.remove_container(id).await?;
        for dir in dirs(&inherited.cgroups, id) {
            ensure!(!dir.exists(), "{} is left", dir.display());
        }
    }
    Ok(())
}

async fn start(inside: &Inside, name: &str, script: &str) -> anyhow::Result<String> {
    let mut spec = inside.spec(name, 0, script);
    spec.resources = LIMITED;
    let id = inside.runtime.create_container(&spec).await?;
    inside.runtime.start_container(&id).await?;
    Ok(id)
}

/// Where a command inside of the container finds itself.
async fn processes(inside: &Inside, id: &str) -> anyhow::Result<String> {
    let spec = ExecSpec {
        command: ["/bin/cat", "/proc/self/cgroup"].map(String::from).to_vec(),
        tty: false,
        stdin: false,
    };
    let mut session = inside.runtime.exec(id, spec).await?;
    let mut text = String::new();
    session.stdout.read_to_string(&mut text).await?;
    let code = session.exit.await.context("an exit code")?;
    ensure!(code == 0, "code {code}");
    Ok(text)
}

fn dirs(cgroups: &Cgroups, id: &str) -> Vec<PathBuf> {
    let roots = match cgroups {
        Cgroups::V1 { memory, cpu, pids, .. } => std::iter::once(memory).chain(cpu).chain(pids).collect(),
        Cgroups::V2 { dir, .. } => vec![dir],
        Cgroups::Unavailable { .. } => vec![],
    };
    roots.into_iter().map(|root| root.join(id)).collect()
}
