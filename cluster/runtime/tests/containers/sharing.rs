//! What the containers of one pod share: memory, and processes where the pod asks for that.

use std::fs;
use std::time::Duration;

use afloat_runtime::{ExecSpec, ProcessNamespace, Runtime as _, SandboxSpec};
use anyhow::{Context as _, ensure};

use crate::inner::{Inside, LIMIT, LOOP, wait_for_text};

/// A program that only waits for its end.
const WAIT: &str = "echo up; exec sleep 1000";

pub(crate) async fn play(inside: &Inside) -> anyhow::Result<()> {
    memory(inside).await?;
    processes(inside).await?;
    lost_holder(inside).await?;
    of_the_node(inside).await?;
    for dir in ["/run/ipcns", "/run/netns"] {
        let left: Vec<_> = fs::read_dir(dir)?.flatten().map(|entry| entry.file_name()).collect();
        ensure!(!left.iter().any(|name| name != "pod"), "{dir} has {left:?}");
    }
    Ok(())
}

async fn pod(inside: &Inside, uid: &str, processes: ProcessNamespace, host_ipc: bool) -> anyhow::Result<()> {
    let spec = SandboxSpec {
        pod_uid: uid.into(),
        pod: format!("default/{uid}"),
        hostname: uid.into(),
        ip: None,
        host_network: false,
        host_ipc,
        processes,
    };
    inside.runtime.create_sandbox(&spec).await?;
    // The agent asks again after a restart of its own.
    inside.runtime.create_sandbox(&spec).await?;
    Ok(())
}

async fn start(inside: &Inside, uid: &str, name: &str, script: &str) -> anyhow::Result<String> {
    let mut spec = inside.spec(name, 0, script);
    spec.pod_uid = uid.into();
    spec.log_path = inside.dir.join(format!("logs/{uid}/{name}.log"));
    let id = inside.runtime.create_container(&spec).await?;
    inside.runtime.start_container(&id).await?;
    Ok(id)
}

async fn says(inside: &Inside, uid: &str, name: &str, text: &str) -> anyhow::Result<()> {
    wait_for_text(
        &inside.dir.join(format!("logs/{uid}/{name}.log")),
        &format!("stdout F {text}"),
    )
    .await
}

async fn end(inside: &Inside, uid: &str, ids: &[String]) -> anyhow::Result<()> {
    for id in ids {
        inside.runtime.signal_container(id, "SIGKILL").await?;
        inside.exit_of(id).await?;
        inside.runtime.remove_container(id).await?;
    }
    Ok(inside.runtime.remove_sandbox(uid).await?)
}

/// That many processes have this command line.
fn count(words: &str) -> usize {
    let lines = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = lines.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| {
            String::from_utf8_lossy(line)
                .replace('\0', " ")
                .trim()
                .trim_start_matches("/bin/")
                == words
        })
        .count()
}

fn holders() -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "pause\n"))
        .collect()
}

/// `/dev/shm` and the IPC namespace belong to the pod; the processes of another container are not seen.
async fn memory(inside: &Inside) -> anyhow::Result<()> {
    let mut all = vec![];
    for uid in ["one", "two"] {
        pod(inside, uid, ProcessNamespace::Container, false).await?;
        let writer = start(inside, uid, "writer", &format!("echo {uid} > /dev/shm/name; {WAIT}")).await?;
        says(inside, uid, "writer", "up").await?;
        let reader = start(inside, uid, "reader", WAIT).await?;
        let (seen, err, code) = inside
            .run(&reader, "cat /dev/shm/name; echo /proc/[0-9]*", None)
            .await?;
        ensure!(
            seen.starts_with(&format!("{uid}\n/proc/1 ")) && code == 0,
            "{seen} {err}"
        );
        ensure!(seen.split_whitespace().count() == 3, "itself and the command: {seen}");
        ensure!(namespace(inside, &writer, "ipc")? == namespace(inside, &reader, "ipc")?);
        all.push((uid, [writer, reader]));
    }
    let first = namespace(inside, &all[0].1[0], "ipc")?;
    ensure!(first != namespace(inside, &all[1].1[0], "ipc")? && first != own("ipc")?);
    for (uid, ids) in all {
        end(inside, uid, &ids).await?;
    }
    println!("ok shared memory");
    Ok(())
}

/// A namespace of a container's first process.
fn namespace(inside: &Inside, id: &str, kind: &str) -> anyhow::Result<std::path::PathBuf> {
    let pid = fs::read_to_string(inside.dir.join(format!("nodes/node1/containers/{id}/pid")))?;
    Ok(fs::read_link(format!("/proc/{}/ns/{kind}", pid.trim()))?)
}

fn own(kind: &str) -> anyhow::Result<std::path::PathBuf> {
    Ok(fs::read_link(format!("/proc/self/ns/{kind}"))?)
}

/// Containers see each other's processes, and what one leaves running ends with it all the same.
async fn processes(inside: &Inside) -> anyhow::Result<()> {
    pod(inside, "shared", ProcessNamespace::Pod, false).await?;
    let first = start(
        inside,
        "shared",
        "first",
        "sleep 4343 & echo up; while :; do sleep 0.05; done",
    )
    .await?;
    says(inside, "shared", "first", "up").await?;
    let second = start(inside, "shared", "second", LOOP).await?;
    says(inside, "shared", "second", "hello").await?;
    ensure!(namespace(inside, &first, "pid")? == namespace(inside, &second, "pid")?);
    let look =
        "read name < /proc/1/comm; echo $name; cat /proc/[0-9]*/cmdline; echo; echo /proc/1/root/*; echo /proc/1/fd/*";
    let (seen, err, _) = inside.run(&second, look, None).await?;
    let lines: Vec<&str> = seen.lines().collect();
    ensure!(lines.first() == Some(&"pause") && seen.contains("4343"), "{seen} {err}");
    ensure!(
        lines
            .iter()
            .filter(|line| **line == "/proc/1/root/*" || **line == "/proc/1/fd/*")
            .count()
            == 2,
        "{seen}"
    );
    // A command in a container is one of its processes, too.
    let session = inside.runtime.exec(&first, sleeping("4444")).await?;
    until("the command runs", || count("sleep 4444") > 0).await?;
    ensure!(count("sleep 4343") == 1);
    inside.runtime.signal_container(&first, "SIGKILL").await?;
    ensure!(inside.exit_of(&first).await? == (137, 9));
    ensure!(
        count("sleep 4343") == 0,
        "what the container left running must be gone when it is said to have ended"
    );
    until("the command ends", || count("sleep 4444") == 0).await?;
    drop(session);
    inside.runtime.signal_container(&second, "SIGTERM").await?;
    ensure!(
        inside.exit_of(&second).await? == (7, 0),
        "it is another container's process, and hears signals of its own"
    );
    end(inside, "shared", &[first, second]).await?;
    // Pid 1 has to reap it.
    until("nobody holds the namespace", || holders().is_empty()).await?;
    println!("ok shared processes");
    Ok(())
}

fn sleeping(seconds: &str) -> ExecSpec {
    ExecSpec {
        command: ["/bin/sleep", seconds].map(String::from).to_vec(),
        tty: false,
        stdin: false,
    }
}

async fn until(what: &str, so: impl Fn() -> bool) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + LIMIT;
    while !so() {
        ensure!(tokio::time::Instant::now() < end, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// When the holder of the namespace dies, all containers do; they can be made again.
async fn lost_holder(inside: &Inside) -> anyhow::Result<()> {
    pod(inside, "lost", ProcessNamespace::Pod, false).await?;
    let id = start(inside, "lost", "main", WAIT).await?;
    let [holder] = holders()[..] else {
        anyhow::bail!("one holder is expected: {:?}", holders())
    };
    let holder = rustix::process::Pid::from_raw(holder).context("a number")?;
    rustix::process::kill_process(holder, rustix::process::Signal::KILL)?;
    ensure!(inside.exit_of(&id).await? == (137, 9));
    inside.runtime.remove_container(&id).await?;
    let id = start(inside, "lost", "main", WAIT).await?;
    ensure!(holders().len() == 1);
    end(inside, "lost", &[id]).await?;
    println!("ok lost holder");
    Ok(())
}

async fn of_the_node(inside: &Inside) -> anyhow::Result<()> {
    pod(inside, "node", ProcessNamespace::Node, true).await?;
    let id = start(inside, "node", "main", "sleep 4545 & echo up; exec sleep 4546").await?;
    says(inside, "node", "main", "up").await?;
    ensure!(namespace(inside, &id, "pid")? == own("pid")? && namespace(inside, &id, "ipc")? == own("ipc")?);
    let (seen, ..) = inside
        .run(
            &id,
            "read self rest < /proc/self/stat; test $self -gt 1 && cat /proc/1/cmdline",
            None,
        )
        .await?;
    ensure!(seen.contains("outer"), "number 1 is the node's: {seen}");
    // The shell has forked for it when it says so; what it forked may not be `sleep` yet.
    until("what runs behind the container", || count("sleep 4545") == 1).await?;
    end(inside, "node", &[id]).await?;
    ensure!(count("sleep 4545") == 0);
    println!("ok of the node");
    Ok(())
}
