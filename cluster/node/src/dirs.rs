//! Where the agent keeps files: `pods/<uid>/{etc,volumes,containers}` and `logs/<namespace>_<name>_<uid>/<container>/<attempt>.log`.
//!
//! A pod's directory exists from before its sandbox is made until after it is gone: after a crash it tells which pods
//! there may be something left of.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::pod::spec;

/// A pod's directories.
#[derive(Clone, Debug)]
pub(crate) struct PodDirs {
    pub(crate) root: PathBuf,
    pub(crate) logs: PathBuf,
}

impl PodDirs {
    pub(crate) fn new(node_dir: &Path, pod: &Pod) -> Self {
        let logs = format!("{}_{}_{}", spec::namespace(pod), spec::name(pod), spec::uid(pod));
        Self {
            root: pods(node_dir).join(spec::uid(pod)),
            logs: node_dir.join("logs").join(logs),
        }
    }

    pub(crate) fn etc(&self) -> PathBuf {
        self.root.join("etc")
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.root.join("volumes").join(name)
    }

    /// The file in which a container tells why it ended (`terminationMessagePath`).
    pub(crate) fn termination_log(&self, container: &str, attempt: u32) -> PathBuf {
        self.root.join("containers").join(container).join(attempt.to_string())
    }

    pub(crate) fn container_logs(&self, container: &str) -> PathBuf {
        self.logs.join(container)
    }

    pub(crate) fn log(&self, container: &str, attempt: u32) -> PathBuf {
        self.container_logs(container).join(format!("{attempt}.log"))
    }
}

/// The directory of all pods' directories.
pub(crate) fn pods(node_dir: &Path) -> PathBuf {
    node_dir.join("pods")
}
