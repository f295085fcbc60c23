//! Starts it all and looks from outside: is it there, and is nothing left when it is gone?

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

const LIMIT: Duration = Duration::from_secs(60);
/// `nobody`, where the tests run as root.
const ORDINARY: &str = "65534";

type Test = (&'static str, fn(&World) -> anyhow::Result<()>);
const TESTS: [Test; 11] = [
    ("life", life),
    ("kill_leaves_nothing_and_a_new_start_is_a_reboot", kill_and_reboot),
    ("inner_crash_finds_containers_again", crash),
    ("signals_stop_it", signals),
    ("deaf_inside_is_killed_by_the_second_signal", deaf),
    ("port_in_use_is_named", port),
    ("images_are_right_to_the_last_layer", images),
    ("containers_stay_inside", boundary),
    ("containers_stay_inside_without_cgroups", boundary_without_cgroups),
    ("limits_hold_and_their_cgroups_go", limits),
    ("a_later_run_sweeps", swept),
];

/// Who runs it.
struct World {
    program: PathBuf,
    ordinary: bool,
    dir: PathBuf,
}

pub(crate) fn main(arguments: &[OsString]) -> i32 {
    let arguments: Vec<&str> = arguments.iter().filter_map(|a| a.to_str()).collect();
    let root = rustix::process::geteuid().is_root();
    let filters: Vec<&str> = arguments.iter().copied().filter(|a| !a.starts_with('-')).collect();
    let mut failures = 0;
    for ordinary in if root { vec![false, true] } else { vec![true] } {
        let who = if ordinary { "ordinary" } else { "root" };
        for (name, test) in TESTS {
            let name = format!("{who}::{name}");
            if !filters.is_empty() && !filters.iter().any(|f| name.contains(f)) {
                continue;
            }
            if arguments.contains(&"--list") {
                println!("{name}: test");
                continue;
            }
            let begin = Instant::now();
            let result = world(ordinary).and_then(|(_dir, world)| test(&world));
            let verdict = match &result {
                Ok(()) => "ok".to_owned(),
                Err(error) if error.to_string().starts_with("skipped") => format!("{error:#}"),
                Err(error) => {
                    failures += 1;
                    format!("FAILED: {error:#}")
                }
            };
            println!("test {name} ... {verdict} ({:.1} s)", begin.elapsed().as_secs_f32());
        }
    }
    i32::from(failures > 0)
}

/// A program and a directory that an ordinary user can reach.
fn world(ordinary: bool) -> anyhow::Result<(tempfile::TempDir, World)> {
    let dir = tempfile::tempdir()?;
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))?;
    let program = dir.path().join("program");
    fs::copy(std::env::current_exe()?, &program)?;
    let data = dir.path().join("data");
    fs::create_dir(&data)?;
    if ordinary && rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&data, ORDINARY.parse().ok(), ORDINARY.parse().ok())?;
    }
    let world = World {
        program,
        ordinary,
        dir: data,
    };
    Ok((dir, world))
}

impl World {
    fn start(&self, scenario: &str, data_dir: Option<&Path>) -> anyhow::Result<Run> {
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        self.start_on(scenario, &listen, data_dir)
    }

    fn start_on(&self, scenario: &str, listen: &str, data_dir: Option<&Path>) -> anyhow::Result<Run> {
        self.start_after(&[], scenario, listen, data_dir)
    }

    /// `before`: a program that goes on to run the rest of its arguments.
    fn start_after(
        &self,
        before: &[&str],
        scenario: &str,
        listen: &str,
        data_dir: Option<&Path>,
    ) -> anyhow::Result<Run> {
        let mark = format!("{scenario}-{}-{listen}", std::process::id());
        let mut words: Vec<OsString> = before.iter().map(Into::into).collect();
        if self.ordinary && rustix::process::geteuid().is_root() {
            let user = ["setpriv", "--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"];
            words.extend(user.map(Into::into));
        }
        words.push(self.program.clone().into());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["outer", scenario, listen])
            .args(data_dir)
            .env("AFLOAT_TEST_MARK", &mark);
        command
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let before = Host::look();
        let mut child = command.spawn().context("skipped: setpriv is not installed")?;
        let (sender, lines) = channel();
        let (out, err) = (
            child.stdout.take().context("stdout")?,
            child.stderr.take().context("stderr")?,
        );
        let copy = sender.clone();
        std::thread::spawn(move || {
            BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| copy.send(line))
        });
        std::thread::spawn(move || {
            BufReader::new(err)
                .lines()
                .map_while(Result::ok)
                .try_for_each(|line| sender.send(format!("stderr {line}")))
        });
        Ok(Run {
            child,
            lines,
            mark,
            before,
            listen: listen.to_owned(),
        })
    }
}

/// What of the host could have been touched.
#[derive(Debug, PartialEq, Eq)]
struct Host {
    devices: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    mounts: usize,
}

impl Host {
    fn look() -> Self {
        let names = |dir: &str| -> BTreeSet<String> {
            fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| format!("{dir}/{}", e.file_name().display()))
                .collect()
        };
        let mut cgroups = names("/sys/fs/cgroup");
        for dir in cgroups.clone() {
            // Those of other runs on this machine come and go; our own are looked at by name.
            let others = format!("{dir}/afloat-");
            cgroups.extend(
                names(&dir)
                    .into_iter()
                    .filter(|path| Path::new(path).is_dir() && !path.starts_with(&others)),
            );
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .unwrap_or_default()
            .lines()
            .count();
        Self {
            devices: names("/sys/class/net"),
            namespaces: names("/run/netns"),
            cgroups,
            mounts,
        }
    }
}

struct Run {
    child: Child,
    lines: Receiver<String>,
    mark: String,
    before: Host,
    listen: String,
}

impl Run {
    /// The next line that starts so; an error that the inside reports comes first.
    fn expect(&mut self, start: &str) -> anyhow::Result<String> {
        let end = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.starts_with(start) => return Ok(line),
                Ok(line) if line.starts_with("error") => bail!("inside: {line}; before: {seen:?}"),
                Ok(line) => seen.push(line),
                Err(_) => {
                    if self.child.try_wait()?.and_then(|status| status.code()) == Some(super::CANNOT) {
                        bail!("skipped: {}", seen.join(" "));
                    }
                    bail!("{start:?} was expected, but: {seen:?}")
                }
            }
        }
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Exit code, 128 + signal where one ended it.
    fn wait(&mut self) -> anyhow::Result<i32> {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(-1));
            }
            ensure!(Instant::now() < end, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Processes of this run that live, in whatever namespace.
    fn processes(&self) -> Vec<String> {
        let mark = format!("AFLOAT_TEST_MARK={}", self.mark).into_bytes();
        let carries =
            |dir: &Path| fs::read(dir.join("environ")).is_ok_and(|env| env.split(|b| *b == 0).any(|v| v == mark));
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|e| carries(&e.path()))
            .map(|e| e.file_name().display().to_string())
            .collect()
    }

    /// This run's own directories, in whatever hierarchy.
    fn cgroups(&self) -> Vec<PathBuf> {
        let start = format!("afloat-{}-", self.child.id());
        let mut found = vec![];
        let mut dirs = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&start) {
                    found.push(entry.path());
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    dirs.push(entry.path());
                }
            }
        }
        found
    }

    /// Waits until the kernel has ended all processes in them, which `wait` does not tell of those that were inside.
    fn wait_for_empty_cgroups(&self) -> anyhow::Result<()> {
        fn busy(dir: &Path) -> bool {
            let below = fs::read_dir(dir).into_iter().flatten().flatten();
            fs::read_to_string(dir.join("cgroup.procs")).is_ok_and(|text| !text.is_empty())
                || below.map(|entry| entry.path()).any(|path| path.is_dir() && busy(&path))
        }
        let end = Instant::now() + LIMIT;
        while self.cgroups().iter().any(|dir| busy(dir)) {
            ensure!(Instant::now() < end, "its processes do not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// The process that removes them in the end.
    fn janitor(&self) -> anyhow::Result<Pid> {
        let is_janitor = |pid: &&String| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "afloat-janitor")
        };
        let pid = self
            .processes()
            .iter()
            .find(is_janitor)
            .and_then(|pid| pid.parse().ok());
        pid.and_then(Pid::from_raw).context("there is no janitor")
    }

    fn nothing_left(&self, at_once: bool) -> anyhow::Result<()> {
        let end = Instant::now() + if at_once { Duration::from_secs(10) } else { LIMIT };
        loop {
            let (processes, host) = (self.processes(), Host::look());
            let listening = TcpListener::bind(&self.listen).is_err();
            let cgroups = self.cgroups();
            if processes.is_empty() && host == self.before && !listening && cgroups.is_empty() {
                return Ok(());
            }
            if Instant::now() > end {
                bail!(
                    "left: processes {processes:?}, cgroups {cgroups:?}, listening {listening}, host {host:?}, was {:?}",
                    self.before
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn life(world: &World) -> anyhow::Result<()> {
    let mut run = world.start("life", None)?;
    for step in [
        "signals and output",
        "commands",
        "refusals",
        "network",
        "broker",
        "shared memory",
        "shared processes",
        "lost holder",
        "of the node",
        "nothing left",
    ] {
        run.expect(&format!("ok {step}"))?;
    }
    ensure!(run.wait()? == 0);
    run.nothing_left(true)
}

fn kill_and_reboot(world: &World) -> anyhow::Result<()> {
    let mut run = world.start("serve", Some(&world.dir))?;
    ensure!(run.expect("running")? == "running main 0 10.244.1.2");
    // The container's process is let go, but may not be the script yet.
    let end = Instant::now() + LIMIT;
    let least = if run.cgroups().is_empty() { 4 } else { 5 };
    while run.processes().len() < least {
        ensure!(
            Instant::now() < end,
            "outer, pid 1, inner, a container, and a janitor where there are cgroups: {:?}",
            run.processes()
        );
    }
    run.signal(Signal::KILL)?;
    run.wait()?;
    run.nothing_left(false)?;
    // Its environment was in memory, and that is gone.
    let found = crate::boundary::holding(&world.dir, &run.mark)?;
    ensure!(found.is_empty(), "{found:?}");
    let mut run = world.start("serve", Some(&world.dir))?;
    ensure!(run.expect("found")? == "found main 0 exited 137 9");
    ensure!(
        run.expect("running")? == "running main 1 10.244.1.2",
        "the same address, one attempt more"
    );
    run.signal(Signal::TERM)?;
    ensure!(run.wait()? == 0);
    run.nothing_left(true)
}

fn crash(world: &World) -> anyhow::Result<()> {
    let mut run = world.start("crash", None)?;
    run.expect("running main 0")?;
    run.expect("up 1")?;
    ensure!(run.expect("found main")? == "found main 0 running");
    run.expect("recovered")?;
    ensure!(run.wait()? == 0);
    run.nothing_left(true)
}

fn signals(world: &World) -> anyhow::Result<()> {
    let mut run = world.start("serve", None)?;
    run.expect("running")?;
    run.signal(Signal::TERM)?;
    run.expect("stopping")?;
    ensure!(run.wait()? == 0);
    run.nothing_left(true)
}

fn deaf(world: &World) -> anyhow::Result<()> {
    let mut run = world.start("deaf", None)?;
    run.expect("running")?;
    run.signal(Signal::TERM)?;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(run.child.try_wait()?.is_none(), "the first signal asks");
    run.signal(Signal::TERM)?;
    ensure!(run.wait()? == 137);
    run.nothing_left(true)
}

fn port(world: &World) -> anyhow::Result<()> {
    let held = TcpListener::bind("127.0.0.1:0")?;
    let address = held.local_addr()?.to_string();
    let mut run = world.start_on("serve", &address, None)?;
    let line = run.expect("stderr")?;
    ensure!(line.contains(&format!("address {address} is in use")), "{line}");
    ensure!(run.wait()? == 3);
    Ok(())
}

fn images(world: &World) -> anyhow::Result<()> {
    let mut run = world.start("images", None)?;
    run.expect("images are right")?;
    ensure!(run.wait()? == 0);
    run.nothing_left(true)
}

fn boundary(world: &World) -> anyhow::Result<()> {
    let limited = ["prlimit", "--nofile=1000:4000"];
    boundary_after(world, &limited)
}

/// As on a machine where nobody may write to cgroups.
fn boundary_without_cgroups(world: &World) -> anyhow::Result<()> {
    if world.ordinary {
        bail!("skipped: an ordinary user has none in any case");
    }
    let script = "umount -R /sys/fs/cgroup; exec prlimit --nofile=1000:4000 \"$@\"";
    boundary_after(world, &["unshare", "-m", "sh", "-c", script, "sh"])
}

fn boundary_after(world: &World, before: &[&str]) -> anyhow::Result<()> {
    let mut run = world.start_after(before, "boundary", "127.0.0.1:0", Some(&world.dir))?;
    for step in ["devices", "roots", "volumes", "secrets", "descriptors"] {
        run.expect(&format!("ok {step}"))?;
    }
    ensure!(run.wait()? == 0);
    run.nothing_left(true)
}

fn limits(world: &World) -> anyhow::Result<()> {
    for signal in [Signal::TERM, Signal::KILL] {
        let mut run = world.start("limits", None)?;
        let line = run.expect("limits ")?;
        if let Some(reason) = line.strip_prefix("limits none: ") {
            ensure!(run.wait()? == 0, "without cgroups everything works: {line}");
            run.nothing_left(true)?;
            if world.ordinary {
                return Ok(());
            }
            bail!("skipped: {reason}");
        }
        let id = line.strip_prefix("limits of ").context("an id")?;
        let cgroups = run.cgroups();
        let text = |file: &str| {
            let mut texts = cgroups.iter().map(|dir| fs::read_to_string(dir.join(id).join(file)));
            texts.find_map(Result::ok).map(|text| text.trim().to_owned())
        };
        let limit = text("memory.limit_in_bytes").or_else(|| text("memory.max"));
        ensure!(
            limit.as_deref() == Some("67108864"),
            "seen from outside: {limit:?} in {cgroups:?}"
        );
        run.signal(signal)?;
        ensure!(run.wait()? == if signal == Signal::KILL { 137 } else { 0 });
        run.nothing_left(signal == Signal::TERM)?;
    }
    Ok(())
}

/// Not even the janitor survives: then the next run does its work, and leaves a run that lives alone.
fn swept(world: &World) -> anyhow::Result<()> {
    let mut other = world.start("serve", None)?;
    other.expect("running")?;
    let mut run = world.start("serve", None)?;
    run.expect("running")?;
    if run.cgroups().is_empty() {
        bail!("skipped: there are no cgroups that could be left");
    }
    kill_process(run.janitor()?, Signal::KILL)?;
    run.signal(Signal::KILL)?;
    run.wait()?;
    ensure!(!run.cgroups().is_empty(), "nobody is there to remove them");
    run.wait_for_empty_cgroups()?;
    let mut next = world.start("serve", None)?;
    next.expect("running")?;
    ensure!(run.cgroups().is_empty(), "swept");
    ensure!(!other.cgroups().is_empty() && !next.cgroups().is_empty(), "those live");
    for run in [&mut other, &mut next] {
        run.signal(Signal::TERM)?;
        ensure!(run.wait()? == 0);
        ensure!(run.cgroups().is_empty());
    }
    Ok(())
}
