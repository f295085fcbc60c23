//! The embedded cluster with real containers, without its own operator.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::operator::AFLOAT;
use crate::ports::free_port;
use crate::process::{PATIENCE, Process, signal_process};

/// A running `afloat up`.
pub(crate) struct Embedded {
    _process: Process,
    dir: tempfile::TempDir,
}

impl Embedded {
    /// Boots it; None (with a word why) where the kernel does not allow it.
    pub(crate) async fn start() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (port, data) = (free_port().to_string(), dir.path().join("data"));
        let arguments = ["up", "--no-operator", "--nodes", "2", "--port", &port, "--data-dir"].map(Into::into);
        let arguments: Vec<std::ffi::OsString> = arguments.into_iter().chain([data.into()]).collect();
        let mut process = Process::start(Path::new(AFLOAT), arguments, dir.path().join("up.log"));
        let deadline = Instant::now() + PATIENCE;
        while !process.log().contains("Kubernetes is up") {
            if let Some(status) = process.ended() {
                let log = process.log();
                assert!(log.contains("kernel"), "afloat up ended with {status}: {log}");
                eprintln!("skipped: {log}");
                return None;
            }
            assert!(
                Instant::now() < deadline,
                "afloat up does not come up: {}",
                process.log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(Self { _process: process, dir })
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("data/kubeconfig")).expect("afloat up writes it")
    }

    /// Builds an image of the program itself; images of the same role and version are one, whatever their names. Gives
    /// its digest.
    pub(crate) fn build(&self, name: &str, role: &str, version: &str) -> String {
        let output = Command::new(AFLOAT)
            .args([
                "image",
                "build",
                name,
                "--libraries",
                "--file",
                &format!("{AFLOAT}=/afloat"),
            ])
            .args(["--entrypoint", "/afloat", "--entrypoint", "app", "--entrypoint", role])
            .args(["--env", &format!("APP_VERSION={version}"), "--data-dir"])
            .arg(self.dir.path().join("data"))
            .output()
            .expect("afloat image build starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text.trim().rsplit(' ').next().unwrap_or_default().to_owned()
    }

    /// Kills the process of a container, found by the variables that every pod of these tests has; false if there is none.
    pub(crate) fn crash(&self, pod: &str, container: &str) -> bool {
        let wanted = [format!("POD={pod}"), format!("CONTAINER={container}")];
        let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
        let mut ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let id = ids.find(|id| {
            let text = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
            let variables: Vec<_> = text.split(|byte| *byte == 0).collect();
            wanted.iter().all(|variable| variables.contains(&variable.as_bytes()))
        });
        // It may end by itself meanwhile.
        id.is_some_and(|id| signal_process(id, "KILL"))
    }
}
