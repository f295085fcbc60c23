//! What runs inside: one scenario, told to the driver line by line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use afloat_runtime::host::{self, Inherited};
use afloat_runtime::image::{BuildSpec, ImageStore};
use afloat_runtime::net::{Bridge, ensure_bridge, setup_base};
use afloat_runtime::oci::{OciOptions, OciRuntime};
use afloat_runtime::{
    Container, ContainerSpec, ContainerState, ExecSpec, Exit, Resources, Runtime, RuntimeError, SandboxSpec,
};
use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// Says hello, and goodbye with code 7.
pub(crate) const LOOP: &str = "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 0.05; done";

pub(crate) fn main(arguments: &[OsString]) -> i32 {
    let scenario = arguments
        .first()
        .and_then(|a| a.to_str())
        .unwrap_or_default()
        .to_owned();
    let result = host::inherited().map_err(anyhow::Error::from).and_then(|inherited| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        runtime.block_on(play(&scenario, inherited))
    });
    match result {
        Ok(()) => 0,
        Err(error) => {
            println!("error {error:#}");
            1
        }
    }
}

async fn play(scenario: &str, inherited: Inherited) -> anyhow::Result<()> {
    ensure!(std::env::var("FROM_OUTER").is_ok(), "the environment must arrive");
    ensure!(host::inherited().is_err(), "descriptors are taken once");
    let mut term = signal(SignalKind::terminate())?;
    let inside = Inside::new(&inherited).await?;
    println!("up {} {}", inherited.restarts, inherited.rootless);
    for container in inside.runtime.containers().await? {
        println!(
            "found {} {} {}",
            container.name,
            container.attempt,
            describe(&container)
        );
    }
    match scenario {
        "life" => inside.life(&inherited).await,
        "serve" => {
            inside.serve().await?;
            term.recv().await;
            println!("stopping");
            Ok(())
        }
        "deaf" => {
            inside.serve().await?;
            std::future::pending().await
        }
        "crash" if inherited.restarts == 0 => {
            inside.serve().await?;
            inside.start("short", 0, "sleep 0.05; exit 5").await?;
            crate::limits::before_crash(&inside, &inherited).await?;
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL)?;
            std::future::pending().await
        }
        "crash" => inside.after_crash(&inherited).await,
        "images" => crate::images::play(&inside, &inherited).await,
        "boundary" => crate::boundary::play(&inside, &inherited).await,
        "limits" => crate::limits::play(&inside, &inherited, &mut term).await,
        other => anyhow::bail!("no scenario {other}"),
    }
}

fn describe(container: &Container) -> String {
    match &container.state {
        ContainerState::Created => "created".into(),
        ContainerState::Running => "running".into(),
        ContainerState::Exited(exit) => format!("exited {} {}", exit.code, exit.signal),
    }
}

pub(crate) struct Inside {
    pub(crate) runtime: OciRuntime,
    pub(crate) image: String,
    pub(crate) dir: std::path::PathBuf,
}

impl Inside {
    async fn new(inherited: &Inherited) -> anyhow::Result<Self> {
        setup_base((Ipv4Addr::new(10, 96, 0, 0), 16)).await?;
        let bridge = Bridge {
            name: "node1".into(),
            gateway: Ipv4Addr::new(10, 244, 1, 1),
            prefix: 24,
        };
        ensure_bridge(&bridge).await?;
        let images = Arc::new(ImageStore::open(&inherited.data_dir.join("images"))?);
        let shell = BuildSpec {
            name: "shell:v1".into(),
            files: ["/bin/sh", "/bin/sleep", "/bin/cat", "/bin/stat"]
                .iter()
                .map(|f| (f.into(), (*f).into()))
                .collect(),
            libraries: true,
            ..BuildSpec::default()
        };
        let image = images.build(&shell)?.id;
        let options = OciOptions {
            node: "node1".into(),
            dir: inherited.data_dir.join("nodes/node1"),
            images,
            bridge,
            oci_runtime: "/proc/self/exe".into(),
            rootless: inherited.rootless,
        };
        Ok(Self {
            runtime: OciRuntime::new(options).await?,
            image,
            dir: inherited.data_dir.clone(),
        })
    }

    pub(crate) fn spec(&self, name: &str, attempt: u32, script: &str) -> ContainerSpec {
        let mark = std::env::var("AFLOAT_TEST_MARK").unwrap_or_default();
        ContainerSpec {
            pod_uid: "pod".into(),
            pod: "default/pod".into(),
            name: name.into(),
            attempt,
            image_id: self.image.clone(),
            args: ["/bin/sh", "-c", script].map(String::from).to_vec(),
            env: vec!["PATH=/bin".into(), format!("AFLOAT_TEST_MARK={mark}")],
            working_dir: String::new(),
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
            resources: Resources::default(),
            stdio: Default::default(),
            process_namespace_of: None,
            log_path: self.dir.join(format!("logs/{name}/{attempt}.log")),
            labels: BTreeMap::from([("a".into(), "b".into())]),
        }
    }

    pub(crate) async fn sandbox(&self) -> anyhow::Result<String> {
        let spec = SandboxSpec {
            pod_uid: "pod".into(),
            pod: "default/pod".into(),
            hostname: "host-of-pod".into(),
            ip: None,
            host_network: false,
            host_ipc: false,
            processes: Default::default(),
        };
        Ok(self.runtime.create_sandbox(&spec).await?.ip.to_string())
    }

    pub(crate) async fn start(&self, name: &str, attempt: u32, script: &str) -> anyhow::Result<String> {
        let id = self.runtime.create_container(&self.spec(name, attempt, script)).await?;
        self.runtime.start_container(&id).await?;
        Ok(id)
    }

    /// As a node agent after a reboot: removes what has ended, makes it again.
    async fn serve(&self) -> anyhow::Result<()> {
        let ip = self.sandbox().await?;
        let mut attempt = 0;
        for container in self.runtime.containers().await? {
            attempt = container.attempt + 1;
            self.runtime.remove_container(&container.id).await?;
        }
        self.start("main", attempt, LOOP).await?;
        println!("running main {attempt} {ip}");
        Ok(())
    }

    pub(crate) async fn exit_of(&self, id: &str) -> anyhow::Result<(i32, i32)> {
        self.end_of(id).await.map(|exit| (exit.code, exit.signal))
    }

    pub(crate) async fn end_of(&self, id: &str) -> anyhow::Result<Exit> {
        let end = tokio::time::Instant::now() + LIMIT;
        loop {
            let found = self
                .runtime
                .containers()
                .await?
                .into_iter()
                .find(|c| c.id == id)
                .context("the container is gone")?;
            if let ContainerState::Exited(exit) = found.state {
                return Ok(exit);
            }
            ensure!(tokio::time::Instant::now() < end, "{} does not end", found.name);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn after_crash(&self, inherited: &Inherited) -> anyhow::Result<()> {
        crate::limits::after_crash(self, inherited).await?;
        let containers = self.runtime.containers().await?;
        let id = |name: &str| {
            containers
                .iter()
                .find(|c| c.name == name)
                .map(|c| c.id.clone())
                .context("a container is missing")
        };
        let (main, short) = (id("main")?, id("short")?);
        ensure!(self.exit_of(&short).await? == (5, 0), "the exit code must survive");
        ensure!(self.sandbox().await? == "10.244.1.2", "the sandbox must be found again");
        let log = self.dir.join("logs/main/0.log");
        let before = tokio::fs::read_to_string(&log).await?;
        self.runtime.signal_container(&main, "SIGTERM").await?;
        ensure!(self.exit_of(&main).await? == (7, 0), "it must still hear signals");
        wait_for_text(&log, "stdout F bye").await?;
        ensure!(before.contains("stdout F hello"), "what it said before must be there");
        println!("recovered");
        Ok(())
    }

    async fn life(&self, inherited: &Inherited) -> anyhow::Result<()> {
        ensure!(
            self.sandbox().await? == "10.244.1.2" && self.sandbox().await? == "10.244.1.2",
            "the same sandbox"
        );
        self.signals_and_output().await?;
        println!("ok signals and output");
        self.commands().await?;
        println!("ok commands");
        self.refusals(inherited.rootless).await?;
        println!("ok refusals");
        self.network().await?;
        println!("ok network");
        self.broker(inherited).await?;
        println!("ok broker");
        crate::sharing::play(self).await?;
        self.runtime.remove_sandbox("pod").await?;
        self.runtime.remove_sandbox("pod").await?;
        ensure!(self.runtime.containers().await?.is_empty());
        let dirs = ["/run/afloat/io", "/run/afloat/oci", "/run/netns"].map(std::path::PathBuf::from);
        for dir in dirs.into_iter().chain([
            self.dir.join("nodes/node1/containers"),
            self.dir.join("nodes/node1/sandboxes"),
        ]) {
            let left: Vec<_> = std::fs::read_dir(&dir)?.flatten().map(|e| e.file_name()).collect();
            ensure!(left.is_empty(), "{} has {left:?}", dir.display());
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        ensure!(!mounts.contains("/rootfs"), "a root file system is still mounted");
        println!("ok nothing left");
        Ok(())
    }

    async fn signals_and_output(&self) -> anyhow::Result<()> {
        let mut exits = self.runtime.exits();
        let id = self.start("main", 3, LOOP).await?;
        wait_for_text(&self.dir.join("logs/main/3.log"), "stdout F hello").await?;
        let found = self.runtime.containers().await?;
        ensure!(
            found.len() == 1 && found[0].attempt == 3 && found[0].labels.len() == 1 && found[0].started_at.is_some()
        );
        ensure!(
            self.runtime.remove_container(&id).await.is_err(),
            "a running container cannot be removed"
        );
        self.runtime.signal_container(&id, "TERM").await?;
        ensure!(tokio::time::timeout(LIMIT, exits.recv()).await?? == id);
        ensure!(self.exit_of(&id).await? == (7, 0));
        self.runtime.signal_container(&id, "TERM").await?;
        self.runtime.remove_container(&id).await?;
        self.runtime.remove_container(&id).await?;
        let id = self.start("main", 4, "echo 1>&2 problem; exec sleep 1000").await?;
        wait_for_text(&self.dir.join("logs/main/4.log"), "stderr F problem").await?;
        self.runtime.signal_container(&id, "SIGKILL").await?;
        ensure!(self.exit_of(&id).await? == (137, 9));
        self.runtime.remove_container(&id).await?;
        // Stopped before it listens: it hears of it when it does.
        let late = "until [ -e /go ]; do sleep 0.01; done; trap 'exit 9' TERM; while :; do sleep 0.05; done";
        let id = self.start("main", 6, late).await?;
        self.runtime.signal_container(&id, "TERM").await?;
        let (_, _, code) = self.run(&id, ": > /go", None).await?;
        ensure!(
            code == 0 && self.exit_of(&id).await? == (9, 0),
            "what came early must be heard"
        );
        self.runtime.remove_container(&id).await?;
        // Never started: waits at the gate, and can be removed there.
        let id = self.runtime.create_container(&self.spec("gate", 0, "exit 1")).await?;
        ensure!(self.runtime.containers().await?[0].state == ContainerState::Created);
        self.runtime.remove_container(&id).await?;
        Ok(())
    }

    pub(crate) async fn run(
        &self,
        id: &str,
        script: &str,
        input: Option<&str>,
    ) -> anyhow::Result<(String, String, i32)> {
        let command = ["/bin/sh", "-c", script].map(String::from).to_vec();
        let mut session = self
            .runtime
            .exec(
                id,
                ExecSpec {
                    command,
                    tty: false,
                    stdin: input.is_some(),
                },
            )
            .await?;
        if let (Some(mut stdin), Some(input)) = (session.stdin.take(), input) {
            stdin.write_all(input.as_bytes()).await?;
            stdin.shutdown().await?;
        }
        let (mut out, mut err) = (String::new(), String::new());
        session.stdout.read_to_string(&mut out).await?;
        session.stderr.context("no stderr")?.read_to_string(&mut err).await?;
        Ok((out, err, tokio::time::timeout(LIMIT, session.exit).await??))
    }

    async fn commands(&self) -> anyhow::Result<()> {
        let mut spec = self.spec("main", 5, LOOP);
        spec.working_dir = "/some/where".into();
        let id = self.runtime.create_container(&spec).await?;
        self.runtime.start_container(&id).await?;
        let said = self
            .run(
                &id,
                "read x < /proc/sys/kernel/hostname; echo $x; pwd; echo err >&2; exit 42",
                None,
            )
            .await?;
        ensure!(
            said == ("host-of-pod\n/some/where\n".into(), "err\n".into(), 42),
            "{said:?}"
        );
        let said = self
            .run(&id, "cd /proc/self/fd; echo *; cd /proc/1/fd; echo *", None)
            .await?;
        ensure!(
            said.0
                .lines()
                .all(|fds| fds.starts_with("0 1 2") && fds.len() <= "0 1 2 10".len()),
            "descriptors leak: {said:?}"
        );
        let said = self.run(&id, "cat", Some("to and fro")).await?;
        ensure!(said.0 == "to and fro" && said.2 == 0, "{said:?}");
        let command = vec!["/bin/none".to_owned()];
        let session = self
            .runtime
            .exec(
                &id,
                ExecSpec {
                    command,
                    tty: false,
                    stdin: false,
                },
            )
            .await?;
        ensure!(
            tokio::time::timeout(LIMIT, session.exit).await?? != 0,
            "a command that does not exist"
        );
        self.terminal(&id).await?;
        self.dropped(&id).await?;
        let program = rustix::fs::statvfs("/run/afloat/program")?;
        ensure!(
            program.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
            "the program must be guarded"
        );
        self.runtime.signal_container(&id, "KILL").await?;
        self.exit_of(&id).await?;
        Ok(self.runtime.remove_container(&id).await?)
    }

    async fn terminal(&self, id: &str) -> anyhow::Result<()> {
        let command = [
            "/bin/sh",
            "-c",
            "test -t 0 && test -t 1 && echo terminal; read x; echo \"<$x>\"; exit 3",
        ]
        .map(String::from)
        .to_vec();
        let mut session = self
            .runtime
            .exec(
                id,
                ExecSpec {
                    command,
                    tty: true,
                    stdin: true,
                },
            )
            .await?;
        ensure!(session.stderr.is_none());
        session.resize.as_ref().context("no resize")?.send((100, 30)).await?;
        session.stdin.as_mut().context("no stdin")?.write_all(b"word\n").await?;
        let mut text = String::new();
        tokio::time::timeout(LIMIT, session.stdout.read_to_string(&mut text)).await??;
        ensure!(text.contains("terminal\r\n") && text.contains("<word>\r\n"), "{text:?}");
        ensure!(tokio::time::timeout(LIMIT, session.exit).await?? == 3);
        Ok(())
    }

    /// A command that nobody waits for any more ends.
    async fn dropped(&self, id: &str) -> anyhow::Result<()> {
        let command = ["/bin/sleep", "4242"].map(String::from).to_vec();
        let session = self
            .runtime
            .exec(
                id,
                ExecSpec {
                    command,
                    tty: false,
                    stdin: false,
                },
            )
            .await?;
        let count = || async {
            anyhow::Ok(
                self.run(
                    id,
                    "for p in /proc/[0-9]*; do read -r l < $p/cmdline; echo \"$l\"; done 2>/dev/null",
                    None,
                )
                .await?
                .0
                .matches("4242")
                .count(),
            )
        };
        let end = tokio::time::Instant::now() + LIMIT;
        while count().await? == 0 {
            ensure!(tokio::time::Instant::now() < end, "the command does not start");
        }
        drop(session);
        while count().await? != 0 {
            ensure!(tokio::time::Instant::now() < end, "the command lives on");
        }
        Ok(())
    }

    async fn refusals(&self, rootless: bool) -> anyhow::Result<()> {
        let refused = |spec: ContainerSpec| async move {
            match self.runtime.create_container(&spec).await {
                Err(RuntimeError::Invalid(message)) => Ok(message),
                other => Err(anyhow::anyhow!("{:?} must be invalid, but: {other:?}", spec.name)),
            }
        };
        let mut spec = self.spec("none", 0, "");
        spec.args = vec!["/does/not/exist".into()];
        let message = refused(spec).await?;
        ensure!(message.contains("/does/not/exist"), "{message}");
        let mut spec = self.spec("flying", 0, "");
        spec.add_capabilities = vec!["FLY".into()];
        refused(spec).await?;
        let mut spec = self.spec("text", 0, "");
        let text = self.dir.join("text");
        tokio::fs::write(&text, "no program").await?;
        spec.mounts = vec![afloat_runtime::Mount {
            source: text.clone(),
            found: None,
            target: "/text".into(),
            read_only: false,
        }];
        spec.args = vec!["/text".into()];
        let message = refused(spec.clone()).await?;
        ensure!(message.contains("/text"), "{message}");
        spec.mounts[0].source = self.dir.join("none");
        let error = self
            .runtime
            .create_container(&spec)
            .await
            .err()
            .context("a mount of nothing")?;
        ensure!(error.to_string().contains("none"), "{error}");
        std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        spec.mounts[0].source = text;
        let id = self.runtime.create_container(&spec).await?;
        let started = self.runtime.start_container(&id).await;
        let code = self.exit_of(&id).await?.0;
        ensure!(code != 0, "{started:?} {code}");
        self.runtime.remove_container(&id).await?;
        self.users(rootless).await?;
        ensure!(matches!(
            self.runtime.start_container("none").await,
            Err(RuntimeError::NotFound(_))
        ));
        ensure!(self.runtime.image("shell:v2").await?.is_none() && self.runtime.image("shell:v1").await?.is_some());
        ensure!(self.runtime.resolve_user(&self.image, "1:2").await? == (1, 2, vec![]));
        Ok(())
    }

    async fn network(&self) -> anyhow::Result<()> {
        let mut spec = self.spec("app", 0, "");
        let exe = std::env::current_exe()?;
        let images = ImageStore::open(&self.dir.join("images"))?;
        let app = BuildSpec {
            name: "app".into(),
            files: vec![(exe, "/app".into())],
            libraries: true,
            ..BuildSpec::default()
        };
        spec.image_id = tokio::task::spawn_blocking(move || images.build(&app)).await??.id;
        spec.args = vec!["/app".into(), "app".into()];
        spec.drop_capabilities = vec!["ALL".into()];
        spec.read_only_root = true;
        let shared = self.dir.join("shared");
        tokio::fs::write(&shared, "text").await?;
        spec.mounts = vec![afloat_runtime::Mount {
            source: shared,
            found: None,
            target: "/etc/shared".into(),
            read_only: true,
        }];
        let id = self.runtime.create_container(&spec).await?;
        self.runtime.start_container(&id).await?;
        wait_for_text(&self.dir.join("logs/app/0.log"), "listening").await?;
        let mut stream = self.runtime.connect("pod", 80).await?;
        stream.write_all(b"abcd").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        ensure!(&answer == b"dcba");
        // A service's address is local without any device that has it.
        let service = tokio::net::TcpListener::bind("10.96.0.1:443").await?;
        tokio::net::TcpStream::connect(service.local_addr()?).await?;
        self.runtime.signal_container(&id, "KILL").await?;
        self.exit_of(&id).await?;
        Ok(self.runtime.remove_container(&id).await?)
    }

    async fn broker(&self, inherited: &Inherited) -> anyhow::Result<()> {
        let broker = inherited.broker.clone();
        tokio::task::spawn_blocking(move || {
            let listener = broker.listen("127.0.0.1:0".parse()?)?;
            let address = listener.local_addr()?;
            ensure!(
                std::net::TcpStream::connect(address).is_err(),
                "it must be the host's loopback, not ours"
            );
            let stream = broker.connect(address)?;
            let (accepted, peer) = listener.accept()?;
            ensure!(peer == stream.local_addr()? && accepted.local_addr()? == address);
            drop(listener);
            let error = broker.connect(address).err().context("nobody listens there")?;
            ensure!(error.kind() == std::io::ErrorKind::ConnectionRefused, "{error}");
            Ok(())
        })
        .await?
    }
}

pub(crate) async fn wait_for_text(path: &std::path::Path, text: &str) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + LIMIT;
    loop {
        let found = tokio::fs::read_to_string(path).await.unwrap_or_default();
        if found.contains(text) {
            return Ok(());
        }
        ensure!(
            tokio::time::Instant::now() < end,
            "{} does not say {text:?} but {found:?}",
            path.display()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
