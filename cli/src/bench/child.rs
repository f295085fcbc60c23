//! Child processes that cannot outlive this one, and the folder for their files.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::options::data_dir::make_private_dir;

/// How long a child may take to end when asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How much of a child's log is repeated in an error.
const LOG_TAIL_BYTES: usize = 400;

/// `afloat bench leash PARENT PROGRAM …`: becomes the program, and dies when the parent does, even if that is killed.
pub(super) fn leash(parent: i32, words: &[OsString]) -> anyhow::Result<i32> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the line above.
    if rustix::process::getppid() != Pid::from_raw(parent) {
        return Ok(1);
    }
    let [program, arguments @ ..] = words else {
        anyhow::bail!("no program given");
    };
    // Returns only if it fails.
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// A child process; killed when dropped.
pub(super) struct Child {
    process: tokio::process::Child,
    pid: u32,
    log: PathBuf,
}

impl Child {
    /// Starts a program; what it writes to standard error goes to a file in `dir`.
    pub(super) fn start(
        name: &str,
        program: &Path,
        arguments: &[&str],
        last: Option<&Path>,
        dir: &Path,
    ) -> anyhow::Result<Self> {
        let log = dir.join(format!("{}.log", name.replace(' ', "-")));
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let mut words: Vec<&OsStr> = vec![program.as_os_str()];
        words.extend(arguments.iter().map(OsStr::new));
        words.extend(last.map(Path::as_os_str));
        let process = tokio::process::Command::new(own)
            .args(["bench", "leash", &std::process::id().to_string(), "--"])
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).with_context(|| format!("cannot write {}", log.display()))?)
            // Ctrl-C in a terminal goes to the whole group: children are stopped in order instead.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start the {name}: {}", program.display()))?;
        let pid = process.id().with_context(|| format!("the {name} ended at once"))?;
        Ok(Self { process, pid, log })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// The first line that it prints.
    pub(super) async fn first_line(&mut self, limit: Duration) -> anyhow::Result<String> {
        let stdout = self.process.stdout.take().context("its output was read before")?;
        let mut lines = BufReader::new(stdout).lines();
        match tokio::time::timeout(limit, lines.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(_) => anyhow::bail!("the API server did not start: {}", self.log()),
            Err(_) => anyhow::bail!(
                "the API server did not start within {} s: {}",
                limit.as_secs(),
                self.log()
            ),
        }
    }

    /// The end of what it wrote to standard error.
    pub(super) fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(LOG_TAIL_BYTES)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }

    /// Asks it to end, waits, and kills it if it takes too long.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, Signal::TERM);
        }
        if tokio::time::timeout(STOP_LIMIT, self.process.wait()).await.is_err() {
            let _ = self.process.kill().await;
        }
    }
}

/// A folder that goes when dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> anyhow::Result<Self> {
        let name = format!(
            "afloat-bench-{}-{}",
            std::process::id(),
            jiff::Timestamp::now().as_nanosecond()
        );
        let dir = std::env::temp_dir().join(name);
        make_private_dir(&dir)?;
        Ok(Self(dir))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
