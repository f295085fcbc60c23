//! Three containers in a box: the process layout, images from files, sandboxes, output, a command inside, stop.
//!
//! `cargo run -p afloat-runtime --example box [-- --data-dir DIR] [--wait]`, as root or as an ordinary user.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afloat_runtime::host::{self, HostOptions};
use afloat_runtime::image::{BuildSpec, ImageStore};
use afloat_runtime::net::{Bridge, ensure_bridge, setup_base};
use afloat_runtime::oci::{OciOptions, OciRuntime};
use afloat_runtime::{ContainerSpec, ContainerState, ExecSpec, Resources, Runtime, SandboxSpec};
use anyhow::Context as _;
use tokio::io::AsyncReadExt as _;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let code = match arguments.first().and_then(|a| a.to_str()) {
        Some("oci") => host::oci_main(&arguments[1..]),
        Some("inner") => inner(&arguments[1..])?,
        _ => {
            let data_dir = arguments
                .iter()
                .position(|a| a == "--data-dir")
                .and_then(|at| arguments.get(at + 1))
                .map(PathBuf::from);
            let mut inner_args = vec![OsString::from("inner")];
            inner_args.extend(arguments);
            host::run(HostOptions {
                data_dir,
                inner_args,
                ..HostOptions::default()
            })?
        }
    };
    std::process::exit(code)
}

fn inner(arguments: &[OsString]) -> anyhow::Result<i32> {
    let inherited = host::inherited()?;
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::INFO)
        .with_writer(std::io::stderr)
        .init();
    let wait = arguments.iter().any(|a| a == "--wait");
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(run(&inherited, wait))?;
    Ok(0)
}

async fn run(inherited: &host::Inherited, wait: bool) -> anyhow::Result<()> {
    let (runtime, image) = prepare(inherited).await?;
    for container in runtime.containers().await? {
        eprintln!(
            "found {} attempt {} {:?}",
            container.name, container.attempt, container.state
        );
    }
    let mut ids = Vec::new();
    for number in 0..3 {
        let uid = format!("uid-{number}");
        let begin = Instant::now();
        let ip = runtime.create_sandbox(&sandbox(&uid)).await?.ip;
        let sandboxed = begin.elapsed();
        let log_path = inherited.data_dir.join(format!("{uid}.log"));
        let id = runtime.create_container(&spec(&uid, &image, log_path)).await?;
        let created = begin.elapsed();
        runtime.start_container(&id).await?;
        eprintln!(
            "{uid} {ip}: sandbox {sandboxed:?}, created {created:?}, started {:?}",
            begin.elapsed()
        );
        ids.push((uid, id));
    }
    command(&runtime, &ids[0].1).await?;
    many(&runtime, &image, &inherited.data_dir).await?;
    if wait {
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?
            .recv()
            .await;
    }
    stop(&runtime, &ids, &inherited.data_dir).await
}

/// The network, an image of busybox, and the runtime.
async fn prepare(inherited: &host::Inherited) -> anyhow::Result<(OciRuntime, String)> {
    let begin = Instant::now();
    setup_base((Ipv4Addr::new(10, 96, 0, 0), 16)).await?;
    let bridge = Bridge {
        name: "node1".into(),
        gateway: Ipv4Addr::new(10, 244, 1, 1),
        prefix: 24,
    };
    ensure_bridge(&bridge).await?;
    let (rootless, restarts) = (inherited.rootless, inherited.restarts);
    eprintln!(
        "network after {:?}; rootless: {rootless}; restarts: {restarts}",
        begin.elapsed()
    );
    let images = Arc::new(ImageStore::open(&inherited.data_dir.join("images"))?);
    let image = images.build(&BuildSpec {
        name: "busybox".into(),
        files: ["/bin/busybox", "/bin/sh"]
            .map(|target| ("/bin/busybox".into(), target.into()))
            .to_vec(),
        libraries: true,
        cmd: vec!["/bin/sh".into()],
        ..BuildSpec::default()
    })?;
    eprintln!("image {} after {:?}", image.id, begin.elapsed());
    let options = OciOptions {
        node: "node1".into(),
        dir: inherited.data_dir.join("nodes/node1"),
        images,
        bridge,
        oci_runtime: "/proc/self/exe".into(),
        rootless: inherited.rootless,
    };
    Ok((OciRuntime::new(options).await?, image.id))
}

async fn command(runtime: &OciRuntime, id: &str) -> anyhow::Result<()> {
    let begin = Instant::now();
    let script = "hostname; id -u; echo err >&2; exit 42";
    let command = ["/bin/busybox", "sh", "-c", script].map(String::from).to_vec();
    let spec = ExecSpec {
        command,
        tty: false,
        stdin: false,
    };
    let mut session = runtime.exec(id, spec).await?;
    let mut text = String::new();
    session.stdout.read_to_string(&mut text).await?;
    eprintln!(
        "exec said {text:?}, code {} after {:?}",
        session.exit.await?,
        begin.elapsed()
    );
    Ok(())
}

async fn stop(runtime: &OciRuntime, ids: &[(String, String)], dir: &std::path::Path) -> anyhow::Result<()> {
    let mut exits = runtime.exits();
    for (uid, id) in ids {
        let begin = Instant::now();
        runtime.signal_container(id, "SIGTERM").await?;
        let ended = tokio::time::timeout(Duration::from_secs(10), exits.recv()).await;
        let ended = ended.context("no exit within 10 s")??;
        let state = runtime
            .containers()
            .await?
            .into_iter()
            .find(|c| c.id == ended)
            .map(|c| c.state);
        eprintln!("{uid} stopped in {:?}: {state:?}", begin.elapsed());
        let expected = matches!(state, Some(ContainerState::Exited(exit)) if exit.code == 7);
        anyhow::ensure!(expected, "it must have exited with 7");
        runtime.remove_container(id).await?;
        runtime.remove_sandbox(uid).await?;
        eprint!("{}", std::fs::read_to_string(dir.join(format!("{uid}.log")))?);
    }
    Ok(())
}

fn sandbox(uid: &str) -> SandboxSpec {
    SandboxSpec {
        pod_uid: uid.into(),
        pod: format!("default/{uid}"),
        hostname: uid.into(),
        ip: None,
        host_network: false,
        host_ipc: false,
        processes: Default::default(),
    }
}

/// Twenty pods at once, as after a scale-up.
async fn many(runtime: &OciRuntime, image_id: &str, dir: &std::path::Path) -> anyhow::Result<()> {
    let begin = Instant::now();
    let one = |number: usize| async move {
        let uid = format!("many-{number}");
        runtime.create_sandbox(&sandbox(&uid)).await?;
        let id = runtime.create_container(&spec(&uid, image_id, dir.join(&uid))).await?;
        runtime.start_container(&id).await?;
        anyhow::Ok((uid, id))
    };
    let made = futures::future::try_join_all((0..20).map(one)).await?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let memory = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap_or_default();
    eprintln!("20 pods at once in {:?}; {memory}", begin.elapsed());
    let begin = Instant::now();
    let mut exits = runtime.exits();
    for (_, id) in &made {
        runtime.signal_container(id, "SIGKILL").await?;
    }
    for _ in &made {
        exits.recv().await?;
    }
    eprintln!("killed after {:?}", begin.elapsed());
    for (uid, id) in &made {
        runtime.remove_container(id).await?;
        runtime.remove_sandbox(uid).await?;
    }
    eprintln!("removed one after the other after {:?}", begin.elapsed());
    Ok(())
}

/// With `LIMITED` in the environment every container has limits, to see what they cost.
fn resources() -> Resources {
    if std::env::var_os("LIMITED").is_none() {
        return Resources::default();
    }
    Resources {
        memory_limit_bytes: Some(64 << 20),
        cpu_shares: Some(102),
        ..Resources::default()
    }
}

fn spec(uid: &str, image_id: &str, log_path: PathBuf) -> ContainerSpec {
    ContainerSpec {
        pod_uid: uid.into(),
        pod: format!("default/{uid}"),
        name: "main".into(),
        attempt: 0,
        image_id: image_id.into(),
        args: [
            "/bin/sh",
            "-c",
            "trap 'echo bye; exit 7' TERM; echo hello from $(hostname); while :; do sleep 0.1; done",
        ]
        .map(String::from)
        .to_vec(),
        env: vec!["PATH=/bin".into()],
        working_dir: "/work/here".into(),
        uid: 0,
        gid: 0,
        additional_gids: vec![],
        mounts: vec![],
        read_only_root: false,
        privileged: false,
        add_capabilities: vec![],
        drop_capabilities: vec![],
        no_new_privileges: false,
        seccomp: afloat_runtime::Seccomp::Unconfined,
        sysctls: std::collections::BTreeMap::new(),
        resources: resources(),
        stdio: Default::default(),
        process_namespace_of: None,
        log_path,
        labels: BTreeMap::new(),
    }
}
