//! containerd, started by the test in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;

const LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Containerd {
    child: Child,
    socket: PathBuf,
    dir: PathBuf,
}

impl Containerd {
    /// None: it is not installed.
    pub(super) fn start(dir: &Path) -> Result<Option<Self>> {
        if Command::new("ctr").arg("--version").output().is_err() {
            return Ok(None);
        }
        fs::create_dir_all(dir)?;
        let socket = dir.join("socket");
        let (root, state) = (dir.join("root"), dir.join("state"));
        let config = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = {socket:?}\n[ttrpc]\naddress = {:?}\n",
            dir.join("ttrpc")
        );
        fs::write(dir.join("config.toml"), config)?;
        let log = fs::File::create(dir.join("log"))?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        let Ok(child) = child else { return Ok(None) };
        let dir = dir.to_owned();
        let containerd = Self { child, socket, dir };
        let end = Instant::now() + LIMIT;
        while !containerd.ctr(&["version"])?.status.success() {
            let log = || fs::read_to_string(containerd.dir.join("log")).unwrap_or_default();
            anyhow::ensure!(Instant::now() < end, "containerd does not answer: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(containerd))
    }

    fn ctr(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(&self.socket).args(arguments);
        Ok(command.stdin(Stdio::null()).output()?)
    }

    /// Imports and mounts an image. The inner error: containerd will not have it.
    pub(super) fn mount(
        &self,
        archive: &Path,
        reference: &str,
        target: &Path,
    ) -> Result<std::result::Result<(), String>> {
        let (archive, target) = (archive.display().to_string(), target.display().to_string());
        for arguments in [
            ["images", "import", "--snapshotter", "overlayfs", &archive],
            ["images", "mount", "--snapshotter=overlayfs", reference, &target],
        ] {
            let output = self.ctr(&arguments)?;
            if !output.status.success() {
                return Ok(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
            }
        }
        Ok(Ok(()))
    }

    pub(super) fn unmount(&self, target: &Path) -> Result<()> {
        let target = target.display().to_string();
        let output = self.ctr(&["images", "unmount", "--snapshotter=overlayfs", "--rm", &target])?;
        anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
