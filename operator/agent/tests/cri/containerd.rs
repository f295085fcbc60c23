//! containerd, started by the test in a folder of its own, with its own socket; ended with the test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);

pub(crate) struct Containerd {
    child: Option<Child>,
    dir: tempfile::TempDir,
}

impl Containerd {
    /// None, with a word why: it cannot run here.
    pub(crate) fn start(sandbox_image: &str) -> Option<Self> {
        let known = ["containerd", "ctr", "runc"].map(|tool| Command::new(tool).arg("--version").output());
        if known.iter().any(Result::is_err) || !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root, containerd, ctr and runc");
            return None;
        }
        let dir = tempfile::Builder::new()
            .prefix("cri")
            .tempdir_in("/tmp")
            .expect("a folder");
        let path = |name: &str| dir.path().join(name);
        let config = format!(
            r#"version = 2
root = {:?}
state = {:?}
[grpc]
address = {:?}
[ttrpc]
address = {:?}
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{sandbox_image}"
disable_cgroup = true
disable_apparmor = true
restrict_oom_score_adj = true
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = {:?}
"#,
            path("root"),
            path("state"),
            path("socket"),
            path("ttrpc"),
            path("certs"),
        );
        fs::write(path("config.toml"), config).expect("a file");
        let mut containerd = Self { child: None, dir };
        containerd.run();
        Some(containerd)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Until it answers.
    pub(crate) fn run(&mut self) {
        let log = fs::File::create(self.dir.path().join("log")).expect("a file");
        let child = Command::new("containerd")
            .arg("--config")
            .arg(self.dir.path().join("config.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("containerd starts"));
        let end = Instant::now() + LIMIT;
        while !self.ctr(&["images", "ls"]).status.success() {
            assert!(Instant::now() < end, "containerd does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// As a crash ends it: containers run on.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// In the namespace of its CRI.
    pub(crate) fn ctr(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command
            .arg("--address")
            .arg(self.socket())
            .args(["-n", "k8s.io"])
            .args(arguments);
        command.stdin(Stdio::null()).output().expect("ctr runs")
    }

    pub(crate) fn import(&self, archive: &Path) {
        let archive = archive.display().to_string();
        let output = self.ctr(&["images", "import", "--snapshotter", "native", &archive]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if self.child.is_none() {
            self.run();
        }
        // What a failed test has left.
        let tasks = self.ctr(&["tasks", "ls", "-q"]);
        for id in String::from_utf8_lossy(&tasks.stdout).split_whitespace() {
            self.ctr(&["tasks", "kill", "-s", "SIGKILL", id]);
            self.ctr(&["tasks", "rm", "-f", id]);
        }
        self.kill();
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.dir.path().display().to_string();
        for mount in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
            if mount.starts_with(&own) {
                let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
            }
        }
    }
}
