//! What a container's cgroups have counted.

use std::fs;
use std::path::Path;

use super::{Cgroups, count};

/// Figures of a container; None: it has no cgroup that knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Nanoseconds of CPU time.
    pub(crate) cpu_ns: Option<u64>,
    /// Memory that the kernel cannot take back at once: the working set, as the kubelet computes it.
    pub(crate) memory_bytes: Option<u64>,
}

impl Cgroups {
    /// Reads them.
    pub(crate) fn usage(&self, id: &str) -> Counted {
        match self {
            Self::V1 { memory, cpu, .. } => {
                // Only where the two controllers share a hierarchy does ours count CPU time.
                let cpu_ns = cpu
                    .as_ref()
                    .and_then(|root| number(&root.join(id).join("cpuacct.usage")));
                let dir = memory.join(id);
                Counted {
                    cpu_ns,
                    memory_bytes: working_set(&dir, "memory.usage_in_bytes", "total_inactive_file"),
                }
            }
            Self::V2 { dir, .. } => {
                let dir = dir.join(id);
                let stat = fs::read_to_string(dir.join("cpu.stat")).ok();
                Counted {
                    cpu_ns: stat.map(|text| count(&text, "usage_usec").saturating_mul(1000)),
                    memory_bytes: working_set(&dir, "memory.current", "inactive_file"),
                }
            }
            Self::Unavailable { .. } => Counted::default(),
        }
    }
}

fn working_set(dir: &Path, used: &str, inactive: &str) -> Option<u64> {
    let used = number(&dir.join(used))?;
    let stat = fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
    Some(used.saturating_sub(count(&stat, inactive)))
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("memory/c/memory.usage_in_bytes", "5000\n");
        write("memory/c/memory.stat", "cache 1\ntotal_inactive_file 1000\n");
        write("cpu/c/cpuacct.usage", "77\n");
        let v1 = Cgroups::V1 {
            memory: dir.path().join("memory"),
            cpu: Some(dir.path().join("cpu")),
            pids: None,
            devices: None,
        };
        let counted = |cpu_ns, memory_bytes| Counted { cpu_ns, memory_bytes };
        assert_eq!(v1.usage("c"), counted(Some(77), Some(4000)));
        assert_eq!(v1.usage("other"), Counted::default());
        write("v2/c/memory.current", "5000\n");
        write("v2/c/memory.stat", "anon 1\ninactive_file 6000\n");
        write("v2/c/cpu.stat", "usage_usec 3\nuser_usec 1\n");
        let v2 = Cgroups::V2 {
            dir: dir.path().join("v2"),
            controllers: vec![],
            unguarded: None,
        };
        assert_eq!(v2.usage("c"), counted(Some(3000), Some(0)));
    }
}
