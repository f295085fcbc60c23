//! Where the nodes of this process keep the contents of the cluster's own volumes.

use std::io;
use std::path::{Component, Path, PathBuf};

/// See [`afloat_controllers::LocalVolumes`].
#[derive(Debug)]
pub(crate) struct LocalVolumes {
    /// The folder of the nodes' folders.
    nodes: PathBuf,
}

impl LocalVolumes {
    pub(crate) fn new(nodes: PathBuf) -> Self {
        Self { nodes }
    }
}

/// A name, and nothing that leads elsewhere: it comes from an object that anybody may have written.
fn is_name(text: &str) -> bool {
    let mut parts = Path::new(text).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(name)), None) if name == text)
}

impl afloat_controllers::LocalVolumes for LocalVolumes {
    fn path(&self, node: &str, volume: &str) -> PathBuf {
        afloat_node::claims_dir(&self.nodes.join(node)).join(volume)
    }

    fn remove(&self, node: &str, volume: &str) -> io::Result<()> {
        if !is_name(node) || !is_name(volume) {
            let message = format!("{node:?} and {volume:?} must be names");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        afloat_runtime::removal::remove_all(&self.path(node, volume))
    }
}

#[cfg(test)]
mod tests {
    use afloat_controllers::LocalVolumes as _;

    use super::*;

    #[test]
    fn only_the_named_volume_goes() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = LocalVolumes::new(dir.path().to_owned());
        for name in ["a", "b"] {
            std::fs::create_dir_all(volumes.path("n", name).join("deep")).unwrap();
        }
        volumes.remove("n", "a").unwrap();
        volumes.remove("n", "a").unwrap();
        assert!(!volumes.path("n", "a").exists() && volumes.path("n", "b").exists());
        for (node, volume) in [("..", "n"), ("n", ".."), ("n", "../../n"), ("n", ""), ("n", "b/")] {
            assert!(volumes.remove(node, volume).is_err(), "{node} {volume}");
        }
        assert!(volumes.path("n", "b").exists());
    }
}
