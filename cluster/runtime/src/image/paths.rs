//! Which files an image has, without running it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use super::ImageError;
use super::merged::is_opaque;
use super::store::ImageStore;

/// Links to folders are followed so often: an image has a few of them (`/bin` → `usr/bin`), and chains are short.
const ROUNDS: usize = 4;

impl ImageStore {
    /// The absolute paths of everything but folders in an image, those through links to folders among them.
    ///
    /// # Errors
    /// There is no such image, or its layers cannot be read.
    pub fn paths(&self, id: &str) -> Result<BTreeSet<String>, ImageError> {
        let mut found = BTreeSet::new();
        let mut links = Vec::new();
        let mut layers = self.layers(id)?;
        layers.reverse();
        for layer in layers {
            walk(&layer, &mut found, &mut links)?;
        }
        for _ in 0..ROUNDS {
            let before = found.len();
            for (link, target) in &links {
                let prefix = format!("{target}/");
                let below: Vec<String> = found
                    .iter()
                    .filter_map(|p| p.strip_prefix(&prefix).map(str::to_owned))
                    .collect();
                found.extend(below.into_iter().map(|rest| format!("{link}/{rest}")));
            }
            if found.len() == before {
                break;
            }
        }
        Ok(found)
    }
}

/// Adds what a layer has and takes out what it hides. Links are never followed: a layer's content is not to be trusted.
fn walk(root: &Path, found: &mut BTreeSet<String>, links: &mut Vec<(String, String)>) -> Result<(), ImageError> {
    let hide = |found: &mut BTreeSet<String>, path: &str| {
        let below = format!("{path}/");
        found.retain(|other| other != path && !other.starts_with(&below));
    };
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let dir = root.join(folder.trim_start_matches('/'));
        if is_opaque(&dir) {
            hide(found, &folder);
        }
        for entry in fs::read_dir(&dir).map_err(ImageError::io(&dir))? {
            let entry = entry.map_err(ImageError::io(&dir))?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            let metadata = entry.metadata().map_err(ImageError::io(entry.path()))?;
            let kind = metadata.file_type();
            if kind.is_dir() {
                found.remove(&path);
                folders.push(path);
            } else if kind.is_char_device() && metadata.rdev() == 0 {
                // A whiteout, as overlayfs has them.
                hide(found, &path);
            } else {
                if kind.is_symlink()
                    && let Ok(target) = fs::read_link(entry.path())
                {
                    links.push((path.clone(), resolved(&folder, &target.to_string_lossy())));
                }
                found.insert(path);
            }
        }
    }
    Ok(())
}

/// A link's target as an absolute path.
fn resolved(folder: &str, target: &str) -> String {
    let start = if target.starts_with('/') { "" } else { folder };
    let mut parts: Vec<&str> = start.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_folders_lead_on() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/bin")).unwrap();
        fs::write(dir.path().join("usr/bin/sh"), "").unwrap();
        std::os::unix::fs::symlink("usr/bin", dir.path().join("bin")).unwrap();
        let (mut found, mut links) = (BTreeSet::new(), Vec::new());
        walk(dir.path(), &mut found, &mut links).unwrap();
        assert_eq!(links, [("/bin".to_owned(), "/usr/bin".to_owned())]);
        assert!(found.contains("/usr/bin/sh"), "{found:?}");
        assert_eq!(resolved("/a/b", "../c"), "/a/c");
    }
}
