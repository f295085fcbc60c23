//! Loads images that other tools have saved: OCI layouts and docker archives.
//!
//! A tar is unpacked first, by the same careful code as layers: blobs may come in any order, and links may point anywhere.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use afloat_words::image::is_digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use super::config::{ConfigFile, architecture, is_foreign};
use super::layer::{decompressed, unpack_archive};
use super::lease::Lease;
use super::name::normalise;
use super::store::{ImageStore, Names};
use super::{Image, ImageError, LAYERS_MAX};
use crate::below::open_file;
use crate::removal::remove_all;

/// What registries take as a manifest at most (OCI distribution specification, "Pushing Manifests").
const JSON_BYTES_MAX: u64 = 4 << 20;
/// Images in one archive.
const IMAGES_MAX: usize = 1000;
/// An index may point to indexes; deeper is nonsense.
const DEPTH_MAX: u32 = 4;
/// Where a layout writes an image's name: tools differ.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An entry of `manifest.json` in a docker archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default, rename = "mediaType")]
    media_type: String,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Descriptor {
    /// It is for this machine, or does not say for which. (What says how an image was built is for an unknown one.)
    fn is_usable(&self) -> bool {
        let fits = |platform: &Platform| platform.os == "linux" && !is_foreign(&platform.architecture);
        self.platform.as_ref().is_none_or(fits)
    }
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

impl ImageStore {
    /// Loads every image of an OCI layout (directory or tar) or of a docker archive; tars may be compressed.
    ///
    /// # Errors
    /// Neither of the two, or broken.
    pub fn load(&self, path: &Path) -> Result<Vec<Image>, ImageError> {
        let _lease = Lease::everything(self)?;
        load(self, path)
    }
}

fn load(store: &ImageStore, path: &Path) -> Result<Vec<Image>, ImageError> {
    let metadata = fs::metadata(path).map_err(ImageError::io(path))?;
    if metadata.is_dir() {
        return load_dir(store, path, path);
    }
    let temporary = store.temporary()?;
    let result = (|| {
        let file = fs::File::open(path).map_err(ImageError::io(path))?;
        unpack_archive(decompressed(file).map_err(ImageError::io(path))?, &temporary)
            .map_err(|e| ImageError::bad(path, format!("is not a tar archive: {e}")))?;
        load_dir(store, &temporary, path)
    })();
    let _ = remove_all(&temporary);
    result
}

/// `shown`: what the user named.
fn load_dir(store: &ImageStore, dir: &Path, shown: &Path) -> Result<Vec<Image>, ImageError> {
    let source = Source { store, dir, shown };
    // Newer docker archives are layouts as well, but only here are the names whole.
    if let Some(entries) = source.optional::<Vec<DockerEntry>>("manifest.json")? {
        source.counted(entries.len())?;
        return entries.iter().map(|entry| source.docker(entry)).collect();
    }
    let Some(index) = source.optional::<Index>("index.json")? else {
        return Err(ImageError::bad(
            shown,
            "is neither an OCI layout (index.json) nor a docker archive (manifest.json)",
        ));
    };
    source.counted(index.manifests.len())?;
    let usable: Vec<_> = index
        .manifests
        .iter()
        .filter(|descriptor| descriptor.is_usable())
        .collect();
    if usable.is_empty() && !index.manifests.is_empty() {
        return Err(source.bad(format!("has no image for linux/{}", architecture())));
    }
    usable
        .into_iter()
        .map(|descriptor| source.described(descriptor, &names(descriptor)?, 0))
        .collect()
}

/// Full names of a descriptor of the top index. A bare tag is no name; such an image has none.
fn names(descriptor: &Descriptor) -> Result<Vec<String>, ImageError> {
    let name = NAME_ANNOTATIONS.iter().find_map(|key| descriptor.annotations.get(*key));
    match name {
        Some(name) if name.contains([':', '/']) => Ok(vec![normalise(name)?]),
        _ => Ok(Vec::new()),
    }
}

struct Source<'a> {
    store: &'a ImageStore,
    dir: &'a Path,
    shown: &'a Path,
}

impl Source<'_> {
    fn bad(&self, reason: impl Into<String>) -> ImageError {
        ImageError::bad(self.shown, reason)
    }

    fn counted(&self, images: usize) -> Result<(), ImageError> {
        if images > IMAGES_MAX {
            return Err(self.bad(format!("has {images} images; at most {IMAGES_MAX} are loaded at once")));
        }
        Ok(())
    }

    fn bytes(&self, path: &Path) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let file = open_file(self.dir, path).map_err(ImageError::io(self.shown.join(path)))?;
        file.take(JSON_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(ImageError::io(self.shown.join(path)))?;
        if bytes.len() as u64 > JSON_BYTES_MAX {
            return Err(self.bad(format!("{} is larger than {JSON_BYTES_MAX} bytes", path.display())));
        }
        Ok(bytes)
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T, ImageError> {
        serde_json::from_slice(bytes).map_err(|e| self.bad(format!("{name}: {e}")))
    }

    fn optional<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ImageError> {
        match open_file(self.dir, Path::new(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io(self.shown.join(name))(error)),
            Ok(_) => self.parse(name, &self.bytes(Path::new(name))?).map(Some),
        }
    }

    fn blob(&self, digest: &str) -> Result<PathBuf, ImageError> {
        if !is_digest(digest) {
            return Err(self.bad(format!("digest {digest:?} is not sha256")));
        }
        Ok(Path::new("blobs/sha256").join(digest.trim_start_matches("sha256:")))
    }

    /// A small blob, its digest checked.
    fn checked(&self, digest: &str) -> Result<Vec<u8>, ImageError> {
        let bytes = self.bytes(&self.blob(digest)?)?;
        if format!("sha256:{}", hex::encode(Sha256::digest(&bytes))) != digest {
            return Err(self.bad(format!("blob {digest} is damaged: its digest is another")));
        }
        Ok(bytes)
    }

    fn described(&self, descriptor: &Descriptor, names: &[String], depth: u32) -> Result<Image, ImageError> {
        let bytes = self.checked(&descriptor.digest)?;
        let kind = descriptor.media_type.as_str();
        let index = serde_json::from_slice::<Index>(&bytes).ok();
        // Not all tools say what it is.
        let untold = kind.is_empty() && index.as_ref().is_some_and(|index| !index.manifests.is_empty());
        if untold || kind.contains("index") || kind.contains("manifest.list") {
            let index = index.map_or_else(|| self.parse(&descriptor.digest, &bytes), Ok)?;
            let chosen = index.manifests.iter().find(|d| d.platform.is_some() && d.is_usable());
            let chosen = chosen.or_else(|| index.manifests.first().filter(|d| d.platform.is_none()));
            let chosen = chosen.ok_or_else(|| self.bad(format!("has no image for linux/{}", architecture())))?;
            if depth >= DEPTH_MAX {
                return Err(self.bad("has indexes in indexes without end"));
            }
            return self.described(chosen, names, depth + 1);
        }
        let manifest: Manifest = self.parse(&descriptor.digest, &bytes)?;
        let config = self.checked(&manifest.config.digest)?;
        let layers = manifest
            .layers
            .iter()
            .map(|layer| self.blob(&layer.digest))
            .collect::<Result<Vec<_>, _>>()?;
        self.add(&config, &layers, names, std::slice::from_ref(&descriptor.digest))
    }

    fn docker(&self, entry: &DockerEntry) -> Result<Image, ImageError> {
        let names = entry
            .repo_tags
            .iter()
            .flatten()
            .map(|tag| normalise(tag))
            .collect::<Result<Vec<_>, _>>()?;
        let layers: Vec<PathBuf> = entry.layers.iter().map(PathBuf::from).collect();
        self.add(&self.bytes(Path::new(&entry.config))?, &layers, &names, &[])
    }

    /// Stores the layers that are missing, then the image. What is in a layer is checked by its diffID.
    fn add(
        &self,
        config: &[u8],
        layers: &[PathBuf],
        names: &[String],
        digests: &[String],
    ) -> Result<Image, ImageError> {
        let parsed: ConfigFile = self.parse("image configuration", config)?;
        if is_foreign(&parsed.architecture) {
            return Err(self.bad(format!(
                "is for {}, this machine is {}",
                parsed.architecture,
                architecture()
            )));
        }
        if parsed.rootfs.diff_ids.len() != layers.len() {
            return Err(self.bad("names more or fewer layers than its configuration"));
        }
        if layers.len() > LAYERS_MAX {
            return Err(self.bad(format!(
                "has {} layers; at most {LAYERS_MAX} are supported",
                layers.len()
            )));
        }
        for (diff_id, path) in parsed.rootfs.diff_ids.iter().zip(layers) {
            if !is_digest(diff_id) {
                return Err(self.bad(format!("diffID {diff_id:?} is not sha256")));
            }
            let wanted = diff_id.trim_start_matches("sha256:");
            if self.store.has_layer(wanted) {
                continue;
            }
            let file = open_file(self.dir, path).map_err(ImageError::io(self.shown.join(path)))?;
            let got = self
                .store
                .add_layer(decompressed(file).map_err(ImageError::io(self.shown.join(path)))?)?;
            if got != wanted {
                return Err(self.bad(format!(
                    "layer {} is damaged: its diffID is sha256:{got}, not {diff_id}",
                    path.display()
                )));
            }
        }
        self.store.add_image(config, Names::Here(names), digests)
    }
}
