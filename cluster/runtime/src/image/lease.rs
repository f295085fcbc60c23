//! What keeps layers although no image has them: containers that run on them, and work under way.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::ImageError;
use super::store::{ImageStore, Parts};
use crate::removal::remove_all;

/// The file in a container's directory that names the layers it runs on.
pub(crate) const LAYERS_NOTE: &str = "layers";
/// In a lease: keep whatever is there.
const EVERYTHING: &str = "*";

/// While it lives, [`ImageStore::prune`] leaves layers alone, in this process and in others. A lease of a process that died
/// counts no longer.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    /// Locked.
    _file: File,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl Lease {
    /// Keeps these layers (hexadecimal diffIDs), there or not yet. Blocks.
    pub(crate) fn take(store: &ImageStore, layers: &[String]) -> Result<Self, ImageError> {
        Self::with(store, &layers.join("\n"))
    }

    /// Keeps all layers, for work that does not know beforehand which. Blocks.
    pub(super) fn everything(store: &ImageStore) -> Result<Self, ImageError> {
        Self::with(store, EVERYTHING)
    }

    fn with(store: &ImageStore, text: &str) -> Result<Self, ImageError> {
        let path = store.dir.join("leases").join(uuid::Uuid::new_v4().to_string());
        // Who looks for leases holds it, too, and so never sees one that is not locked yet.
        let _lock = store.lock()?;
        let file = File::create_new(&path).map_err(ImageError::io(&path))?;
        let lease = Self { path, _file: file };
        let io = ImageError::io(&lease.path);
        lease
            ._file
            .lock()
            .and_then(|()| (&lease._file).write_all(text.as_bytes()))
            .map_err(io)?;
        Ok(lease)
    }
}

/// Layers of all leases; None: keep everything. The store is locked.
fn leased(store: &ImageStore) -> Result<Option<Vec<String>>, ImageError> {
    let dir = store.dir.join("leases");
    let mut layers = Vec::new();
    for entry in fs::read_dir(&dir).map_err(ImageError::io(&dir))?.flatten() {
        let Ok(mut file) = File::open(entry.path()) else {
            continue;
        };
        if file.try_lock().is_ok() {
            let _ = fs::remove_file(entry.path());
            continue;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(ImageError::io(entry.path()))?;
        if text == EVERYTHING {
            return Ok(None);
        }
        layers.extend(text.lines().map(str::to_owned));
    }
    Ok(Some(layers))
}

/// Layers that containers of any node run on; `nodes` is the directory of the nodes' own directories.
pub fn layers_in_use(nodes: &Path) -> Vec<String> {
    notes(nodes)
        .flat_map(|text| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// Ids of the images that containers of any node were made of.
pub fn images_in_use(nodes: &Path) -> Vec<String> {
    notes(nodes)
        .filter_map(|text| text.lines().next().map(str::to_owned))
        .collect()
}

fn notes(nodes: &Path) -> impl Iterator<Item = String> {
    let directories = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten();
    let containers = directories(nodes.to_owned()).flat_map(move |node| directories(node.path().join("containers")));
    containers.filter_map(|container| fs::read_to_string(container.path().join(LAYERS_NOTE)).ok())
}

/// What a container's note says: its image, then the layers.
fn text_of_note(image_id: &str, layers: &[String]) -> String {
    std::iter::once(image_id)
        .chain(layers.iter().map(String::as_str))
        .collect::<Vec<_>>()
        .join("\n")
}

impl ImageStore {
    /// The same for a container, with a note in its directory that keeps them while the directory is there.
    pub(crate) fn pin(&self, id: &str, note: &Path) -> Result<Parts, ImageError> {
        // No removal in between: either the image is gone, or the note is seen.
        let _lock = self.lock()?;
        let record = self.record(id)?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        let layers: Vec<String> = record.needed().cloned().collect();
        fs::write(note, text_of_note(id, &layers)).map_err(ImageError::io(note))?;
        Ok(self.parts(&record))
    }

    /// Removes layers that no image has, except those of `keep` (see [`layers_in_use`]) and what work under way needs.
    /// Answers how many.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn prune(&self, keep: &[String]) -> Result<usize, ImageError> {
        let mut taken = Vec::new();
        {
            let _lock = self.lock()?;
            let Some(mut used) = leased(self)? else {
                return Ok(0);
            };
            used.extend_from_slice(keep);
            for image in self.list()? {
                used.extend(
                    self.record(&image.id)?
                        .iter()
                        .flat_map(|record| record.needed().cloned()),
                );
            }
            let dir = self.dir.join("layers");
            for entry in fs::read_dir(&dir).map_err(ImageError::io(&dir))?.flatten() {
                if used.iter().any(|layer| entry.file_name() == layer.as_str()) {
                    continue;
                }
                let away = self.temporary_path();
                if fs::rename(entry.path(), &away).is_ok() {
                    taken.push(away);
                }
            }
        }
        // Others need not wait for this.
        for path in &taken {
            let _ = remove_all(path);
        }
        Ok(taken.len())
    }
}
