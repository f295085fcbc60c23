//! What emptyDirs take, and whether that is more than they may (the kubelet's local storage eviction).

use std::io;
use std::path::Path;

use afloat_words::quantity::Quantity;
use k8s_openapi::api::core::v1::{Pod, Volume};

use super::declared::volumes;
use super::files;
use crate::dirs::PodDirs;

/// emptyDirs with a `sizeLimit` that has to be watched: one in memory cannot grow beyond its own.
pub(crate) fn limited(pod: &Pod) -> impl Iterator<Item = (&Volume, &str)> {
    volumes(pod).filter_map(|volume| {
        let source = volume.empty_dir.as_ref()?;
        let limit = source.size_limit.as_ref()?.0.as_str();
        let watched =
            source.medium.as_deref() != Some("Memory") && limit.parse().is_ok_and(|limit: Quantity| limit.nano() > 0);
        watched.then_some((volume, limit))
    })
}

/// The kubelet's sentence about the first volume that is larger than it may be.
pub(crate) fn excess(pod: &Pod, dirs: &PodDirs) -> Option<String> {
    limited(pod).find_map(|(volume, limit)| {
        let used = used(&dirs.volume(&volume.name));
        let over = i128::from(used) > i128::from(limit.parse::<Quantity>().ok()?.value());
        over.then(|| {
            format!(
                "Usage of EmptyDir volume \"{}\" exceeds the limit \"{limit}\". ",
                volume.name
            )
        })
    })
}

/// Bytes on disk, as `du` counts them. What vanishes meanwhile counts nothing; folders that are deeper than anybody needs count as more than
/// there is, as nothing else would end them.
fn used(path: &Path) -> u64 {
    let mut sum = 0_u64;
    let looked = files::walk(path, &mut |_, stat| {
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        sum = sum.saturating_add(blocks.saturating_mul(512));
        Ok(())
    });
    match looked {
        Err(error) if error.kind() == io::ErrorKind::Other => u64::MAX,
        _ => sum,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_volume_that_is_too_large_is_named() {
        let node = tempfile::tempdir().unwrap();
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "uid": "u"}, "spec": {
            "containers": [], "volumes": [
                {"name": "free", "emptyDir": {}}, {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1"}},
                {"name": "small", "emptyDir": {"sizeLimit": "64Ki"}}]}}))
        .unwrap();
        let dirs = PodDirs::new(node.path(), &pod);
        for name in ["free", "memory", "small"] {
            fs::create_dir_all(dirs.volume(name)).unwrap();
        }
        fs::write(dirs.volume("free").join("f"), vec![1; 100_000]).unwrap();
        assert_eq!(excess(&pod, &dirs), None);
        fs::write(dirs.volume("small").join("f"), vec![1; 100_000]).unwrap();
        let told = "Usage of EmptyDir volume \"small\" exceeds the limit \"64Ki\". ";
        assert_eq!(excess(&pod, &dirs).as_deref(), Some(told));
        // Neither a link nor depth hides from it, and it looks at nothing outside.
        fs::remove_file(dirs.volume("small").join("f")).unwrap();
        std::os::unix::fs::symlink("/", dirs.volume("small").join("out")).unwrap();
        assert_eq!(excess(&pod, &dirs), None);
        fs::create_dir_all(dirs.volume("small").join("d/".repeat(600))).unwrap();
        assert_eq!(excess(&pod, &dirs).as_deref(), Some(told));
    }
}
