//! What an ended container leaves to be read (Kubernetes, "Determine the Reason for Pod Failure"). Pure.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;

use crate::pod::instance::Instance;
use crate::pod::state::{PodState, Track};

/// The kubelet's limits (`pkg/kubelet/container`): bytes of the file, and bytes and lines of the log in its place.
pub(crate) const FILE_BYTES: u64 = 4096;
pub(crate) const LOG_BYTES: usize = 2048;
pub(crate) const LOG_LINES: usize = 80;

/// Where in the container the file is. None: it wants none.
pub(crate) fn path(container: &Container) -> Option<PathBuf> {
    let path = container.termination_message_path.as_deref()?;
    (!path.is_empty()).then(|| Path::new("/").join(path))
}

/// Whether the end of its log stands for a file in which nothing is: it failed, and it did run.
pub(crate) fn falls_back_to_logs(container: &Container, instance: &Instance) -> bool {
    let failed = instance.exit().is_some_and(|exit| exit.code != 0);
    let policy = container.termination_message_policy.as_deref();
    failed && instance.start_error.is_none() && policy == Some("FallbackToLogsOnError")
}

impl PodState {
    /// Names and instances that have ended and whose last words nobody has looked for.
    pub(crate) fn unread(&self) -> Vec<(String, Instance)> {
        let of = |(name, track): (&String, &Track)| {
            let instance = track.instance.as_ref()?;
            (!instance.alive() && instance.last_words.is_none()).then(|| (name.clone(), instance.clone()))
        };
        self.containers.iter().filter_map(of).collect()
    }

    /// Its last words were looked for.
    pub(crate) fn heard(&mut self, id: &str, words: String) {
        if let Some(instance) = self.instance_mut(id) {
            instance.last_words = Some(words);
        }
    }
}

#[cfg(test)]
mod tests {
    use afloat_runtime::Exit;
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::pod::instance::Process;

    fn container(policy: &str) -> Container {
        serde_json::from_value(
            json!({"name": "c", "terminationMessagePath": "var/why", "terminationMessagePolicy": policy}),
        )
        .unwrap()
    }

    fn ended(code: i32) -> Instance {
        let exit = Exit {
            code,
            signal: 0,
            finished_at: Timestamp::UNIX_EPOCH,
            oom_killed: false,
        };
        Instance {
            process: Process::Exited(exit),
            ..Instance::created("c-0".into(), 0, String::new())
        }
    }

    #[test]
    fn a_log_stands_for_the_file_of_a_failure_alone() {
        assert_eq!(path(&container("File")).unwrap(), Path::new("/var/why"));
        assert_eq!(path(&Container::default()), None);
        let fallback = container("FallbackToLogsOnError");
        assert!(falls_back_to_logs(&fallback, &ended(1)));
        assert!(!falls_back_to_logs(&fallback, &ended(0)));
        assert!(!falls_back_to_logs(&container("File"), &ended(1)));
        let mut never_ran = ended(128);
        never_ran.start_error = Some("no such program".into());
        assert!(!falls_back_to_logs(&fallback, &never_ran));
    }

    #[test]
    fn last_words_follow_why_it_could_not_start() {
        let mut instance = ended(128);
        let message = |instance: &Instance| instance.ended().and_then(|ended| ended.message);
        assert_eq!(message(&instance), None);
        instance.last_words = Some(String::new());
        assert_eq!(message(&instance), None);
        instance.last_words = Some("out of tea".into());
        assert_eq!(message(&instance).as_deref(), Some("out of tea"));
        instance.start_error = Some("no such program".into());
        assert_eq!(message(&instance).as_deref(), Some("no such program: out of tea"));
    }
}
