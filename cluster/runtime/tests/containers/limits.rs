//! Limits of containers, seen from inside: they are set, they hold, and they go with the container.

use std::path::PathBuf;

use afloat_runtime::host::Inherited;
use afloat_runtime::{Cgroups, ExecSpec, Resources, Runtime as _};
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
    let values = [
        ("memory.limit_in_bytes", "67108864"),
        ("cpu.shares", "256"),
        ("cpu.cfs_quota_us", "50000"),
        ("pids.max", "100"),
    ];
    if matches!(inherited.cgroups, Cgroups::V1 { .. }) {
        for (file, expected) in values {
            let found = dirs(&inherited.cgroups, &limited)
                .iter()
                .find_map(|dir| std::fs::read_to_string(dir.join(file)).ok());
            ensure!(
                found.as_deref().is_none_or(|v| v.trim() == expected),
                "{file}: {found:?}"
            );
        }
    }
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
        Cgroups::V1 { memory, cpu, pids } => std::iter::once(memory).chain(cpu).chain(pids).collect(),
        Cgroups::V2 { dir, .. } => vec![dir],
        Cgroups::Unavailable { .. } => vec![],
    };
    roots.into_iter().map(|root| root.join(id)).collect()
}
