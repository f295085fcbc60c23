//! Images that come from registries.

use std::fs::File;
use std::path::Path;

use afloat_words::image::is_digest;

use super::config::{ConfigFile, architecture, is_foreign};
use super::layer::decompressed;
use super::store::{ImageStore, Named, Names};
use super::{Image, ImageError};

/// The layers that a configuration names, hexadecimal, lowest first.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub(crate) fn diff_ids(config: &[u8]) -> Result<Vec<String>, String> {
    let config: ConfigFile =
        serde_json::from_slice(config).map_err(|e| format!("its configuration cannot be read: {e}"))?;
    if is_foreign(&config.architecture) {
        return Err(format!(
            "it is for {}, this machine is {}",
            config.architecture,
            architecture()
        ));
    }
    let plain = |id: &String| match id.strip_prefix("sha256:") {
        Some(hex) if is_digest(id) => Ok(hex.to_owned()),
        _ => Err(format!(
            "its configuration names a layer {id:?}, which is no sha256 digest"
        )),
    };
    config.rootfs.diff_ids.iter().map(plain).collect()
}

impl ImageStore {
    /// Stores an image that was pulled under a full name, its layers being there. `digests`: the manifest's, and before it
    /// those of the indexes that led there; the first is what the registry has under the name.
    pub(crate) fn add_pulled(&self, config: &[u8], name: &str, digests: &[String]) -> Result<Image, ImageError> {
        let digest = digests.first().map_or("", String::as_str);
        self.add_image(config, Names::Pulled(name, digest), digests)
    }

    /// What a registry had under a full name when it was pulled. None: it was not, or is another one now.
    pub(crate) fn pulled_digest(&self, name: &str) -> Result<Option<String>, ImageError> {
        Ok(self.names()?.remove(name).and_then(|named| match named {
            Named::Pulled { digest, .. } => Some(digest),
            Named::Here(_) => None,
        }))
    }

    /// Whether a registry can bring an image back: it came from one, and no name of it was given here.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn is_pulled(&self, image: &Image) -> Result<bool, ImageError> {
        let pulled = self.record(&image.id)?.is_some_and(|record| record.pulled);
        Ok(pulled && image.names.len() == image.registry_names.len())
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Unpacks a layer, compressed or not. Answers its diffID, hexadecimal.
    pub(crate) fn add_layer_file(&self, path: &Path) -> Result<String, ImageError> {
        let file = File::open(path).map_err(ImageError::io(path))?;
        self.add_layer(decompressed(file).map_err(ImageError::io(path))?)
    }
}
