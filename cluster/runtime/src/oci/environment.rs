//! What a container's first process was started with, as the kernel keeps it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;

use afloat_words::environment::of_process;

use super::shared::Shared;
use super::work::failed;
use crate::container::ContainerState;
use crate::runtime::RuntimeError;

/// More than a process can be started with (execve(2): a quarter of the stack's limit, 8 MiB by default).
const BYTES_MAX: u64 = 4 << 20;

impl Shared {
    /// See [`crate::Runtime::environment`]. Blocks.
    pub(super) fn environment(&self, id: &str) -> Result<BTreeMap<String, String>, RuntimeError> {
        let pid = self.running(id)?;
        let path = format!("/proc/{pid}/environ");
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
        read.map_err(|error| failed(format!("reading {path}"), &error))?;
        // If it has ended meanwhile, the number may be another's.
        if self.running(id)? != pid {
            return Err(RuntimeError::Failed(format!("container {id} was replaced meanwhile")));
        }
        Ok(of_process(&bytes))
    }

    fn running(&self, id: &str) -> Result<i32, RuntimeError> {
        let containers = self.containers();
        let record = containers.get(id).map(|entry| &entry.record);
        let record = record.ok_or_else(|| RuntimeError::NotFound(format!("container {id}")))?;
        let running = record.pid.filter(|_| record.state() == ContainerState::Running);
        running.ok_or_else(|| RuntimeError::Failed(format!("container {id} does not run")))
    }
}
