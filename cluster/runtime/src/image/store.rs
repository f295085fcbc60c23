//! Where images are: layers by diffID, configurations by digest, names in one file.
//!
//! ```text
//! layers/<diffID>/fs      unpacked, for overlays      layers/<diffID>/size   bytes of its files
//! layers/<diffID>/notes   see `layer::Notes`, where there is something to note
//! images/<id>.json        layers and digests          configs/<id>           the configuration as it came
//! names.json              full name → id (and digest, if it was pulled), changed under `lock`
//! leases/                 layers that somebody is about to use, see `lease`
//! tmp/                    made whole here, then renamed
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use afloat_words::image::{ImageName, is_digest};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::config::ConfigFile;
use super::name::normalise;
use super::{Image, ImageConfig, ImageError, layer, merged};
use crate::below::open_file;
use crate::removal::remove_all;

/// Something in `tmp` that is older was left by a process that died.
const STALE_AFTER: std::time::Duration = std::time::Duration::from_secs(3600);

/// A list of users or groups with tens of thousands of lines.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// Blobs under way end so.
const PARTIAL: &str = "part";

/// A directory of images. Calls block: not for async threads.
#[derive(Clone, Debug)]
pub struct ImageStore {
    pub(super) dir: PathBuf,
}

/// What is known of an image beside its configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    /// Hexadecimal, lowest first.
    pub(super) layers: Vec<String>,
    /// What of them an overlay is made of, and a layer of folders with their right modes where it is needed, see `stack`.
    #[serde(default)]
    pub(super) stack: Vec<String>,
    /// Folders that each container has a volume of its own for.
    #[serde(default)]
    volumes: Vec<PathBuf>,
    size_bytes: u64,
    /// Digests of manifests that it came with, `sha256:…`.
    #[serde(default)]
    digests: Vec<String>,
    /// It came from a registry, and can again.
    #[serde(default)]
    pub(super) pulled: bool,
}

impl Record {
    /// All layers that the image needs.
    pub(super) fn needed(&self) -> impl Iterator<Item = &String> {
        self.layers.iter().chain(&self.stack)
    }
}

/// What a container is made of.
pub(crate) struct Parts {
    /// Unpacked layers, topmost first, as overlays want them.
    pub(crate) layers: Vec<PathBuf>,
    /// Folders that it has a volume of its own for, absolute.
    pub(crate) volumes: Vec<PathBuf>,
}

/// What a name points to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Named {
    /// An image that was made or loaded here.
    Here(String),
    /// One that came from a registry.
    Pulled {
        id: String,
        /// What the registry had under the name.
        digest: String,
    },
}

impl Named {
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Here(id) | Self::Pulled { id, .. } => id,
        }
    }
}

/// Names to add to an image.
pub(super) enum Names<'a> {
    /// For one that was made or loaded here.
    Here(&'a [String]),
    /// For one that came from a registry, where the name means this digest.
    Pulled(&'a str, &'a str),
}

impl ImageStore {
    /// Opens the store in a directory, which is made if missing.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: &Path) -> Result<Self, ImageError> {
        for name in ["layers", "images", "configs", "leases", "tmp"] {
            let path = dir.join(name);
            fs::create_dir_all(&path).map_err(ImageError::io(path))?;
        }
        let store = Self { dir: dir.to_owned() };
        store.sweep();
        Ok(store)
    }

    /// Every image, by id.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let names = self.names()?;
        let dir = self.dir.join("images");
        let mut ids: Vec<String> = fs::read_dir(&dir)
            .map_err(ImageError::io(&dir))?
            .filter_map(|entry| {
                entry
                    .ok()?
                    .file_name()
                    .to_str()?
                    .strip_suffix(".json")
                    .map(|hex| format!("sha256:{hex}"))
            })
            .collect();
        ids.sort();
        let mut images = Vec::new();
        for id in ids {
            images.extend(self.read(&id, &names)?);
        }
        Ok(images)
    }

    /// Finds an image by a reference as pods use it, or by its id. None: it is not here.
    ///
    /// # Errors
    /// The reference is not one, or the store cannot be read.
    pub fn find(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        let names = self.names()?;
        if is_digest(reference) {
            return self.read(reference, &names);
        }
        let name = normalise(reference)?;
        if let Some(named) = names.get(&name) {
            return self.read(named.id(), &names);
        }
        let Some((_, digest)) = name.split_once('@') else {
            return Ok(None);
        };
        if let Some(image) = self.read(digest, &names)? {
            return Ok(Some(image));
        }
        for image in self.list()? {
            if self
                .record(&image.id)?
                .is_some_and(|record| record.digests.iter().any(|d| d == digest))
            {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    /// Takes a name away, and with its last name the image. Layers stay for [`ImageStore::prune`]: a container may still
    /// run on them. `false`: there was no such image.
    ///
    /// # Errors
    /// The reference is not one, or the store cannot be written.
    pub fn remove(&self, reference: &str) -> Result<bool, ImageError> {
        let Some(image) = self.find(reference)? else {
            return Ok(false);
        };
        let _lock = self.lock()?;
        let mut names = self.names()?;
        if is_digest(reference) {
            names.retain(|_, named| named.id() != image.id);
        } else {
            names.remove(&normalise(reference)?);
        }
        self.write_names(&names)?;
        if !names.values().any(|named| named.id() == image.id) {
            for path in [self.record_path(&image.id), self.config_path(&image.id)] {
                fs::remove_file(&path).or_else(|e| {
                    if e.kind() == io::ErrorKind::NotFound {
                        Ok(())
                    } else {
                        Err(ImageError::io(path)(e))
                    }
                })?;
            }
        }
        Ok(true)
    }

    /// Unpacked layers of an image, topmost first.
    pub(super) fn layers(&self, id: &str) -> Result<Vec<PathBuf>, ImageError> {
        let record = self.record(id)?.ok_or_else(|| ImageError::NotFound(id.to_owned()))?;
        Ok(self.parts(&record).layers)
    }

    /// What a container of an image is made of.
    pub(super) fn parts(&self, record: &Record) -> Parts {
        // An earlier version wrote no stack.
        let stack = if record.stack.is_empty() {
            &record.layers
        } else {
            &record.stack
        };
        Parts {
            layers: stack.iter().rev().map(|layer| self.layer(layer)).collect(),
            volumes: record.volumes.clone(),
        }
    }

    pub(super) fn layer(&self, diff_id: &str) -> PathBuf {
        self.dir.join("layers").join(diff_id).join("fs")
    }

    /// A text file of an image; empty where there is none.
    ///
    /// # Errors
    /// It cannot be read, or is larger than any list of users.
    pub(crate) fn read_file(&self, id: &str, path: &str) -> Result<String, ImageError> {
        let Some((layer, place)) = merged::find(&self.layers(id)?, Path::new(path))? else {
            return Ok(String::new());
        };
        // A pipe or the like in its place is no list.
        let Ok(file) = open_file(&layer, &place) else {
            return Ok(String::new());
        };
        let mut text = Vec::new();
        file.take(TEXT_BYTES_MAX + 1)
            .read_to_end(&mut text)
            .map_err(ImageError::io(path))?;
        if text.len() as u64 > TEXT_BYTES_MAX {
            let reason = format!("is larger than {TEXT_BYTES_MAX} bytes in the image");
            return Err(ImageError::bad(path, reason));
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Stores a layer out of a plain tar stream. Answers its diffID, hexadecimal.
    pub(super) fn add_layer(&self, stream: impl Read) -> Result<String, ImageError> {
        let temporary = self.temporary()?;
        let result = self.add_layer_by(&temporary, stream);
        let _ = remove_all(&temporary);
        result
    }

    fn add_layer_by(&self, temporary: &Path, stream: impl Read) -> Result<String, ImageError> {
        let root = temporary.join("fs");
        fs::create_dir(&root).map_err(ImageError::io(&root))?;
        let unpacked = layer::unpack(stream, &root)?;
        let notes = temporary.join("notes");
        if !unpacked.notes.is_empty() {
            fs::write(&notes, unpacked.notes.to_bytes()).map_err(ImageError::io(notes))?;
        }
        self.put_layer(temporary, &unpacked.diff_id, unpacked.size)?;
        Ok(unpacked.diff_id)
    }

    /// Gives a layer that was made in a directory its name.
    pub(super) fn put_layer(&self, temporary: &Path, diff_id: &str, size: u64) -> Result<(), ImageError> {
        let root = temporary.join("fs");
        fs::write(temporary.join("size"), size.to_string()).map_err(ImageError::io(temporary))?;
        // A layer that has its name is whole, also after a power cut: one call for all of its files.
        let whole = File::open(&root).and_then(|root| Ok(rustix::fs::syncfs(root)?));
        whole.map_err(ImageError::io(&root))?;
        let target = self.dir.join("layers").join(diff_id);
        match fs::rename(temporary, &target) {
            // Somebody else was faster with the same layer.
            Err(_) if target.join("size").exists() => Ok(()),
            Err(error) => Err(ImageError::io(target)(error)),
            Ok(()) => Ok(()),
        }
    }

    pub(crate) fn has_layer(&self, diff_id: &str) -> bool {
        self.dir.join("layers").join(diff_id).join("size").exists()
    }

    /// Stores an image whose layers are there, under names (full ones).
    pub(super) fn add_image(&self, config: &[u8], names: Names<'_>, digests: &[String]) -> Result<Image, ImageError> {
        let id = format!("sha256:{}", hex::encode(Sha256::digest(config)));
        let parsed: ConfigFile = serde_json::from_slice(config).map_err(|e| ImageError::bad(&id, e.to_string()))?;
        let volumes = parsed.volumes().map_err(|reason| ImageError::bad(&id, reason))?;
        let mut layers: Vec<String> = Vec::new();
        let mut size_bytes = 0;
        for diff_id in &parsed.rootfs.diff_ids {
            let layer = diff_id.strip_prefix("sha256:").unwrap_or(diff_id);
            if layers.iter().any(|other| other == layer) {
                layers.push(layer.to_owned());
                continue;
            }
            let path = self.dir.join("layers").join(layer).join("size");
            size_bytes += fs::read_to_string(&path)
                .map_err(ImageError::io(&path))?
                .trim()
                .parse::<u64>()
                .unwrap_or(0);
            layers.push(layer.to_owned());
        }
        let _lock = self.lock()?;
        let before = self.record(&id)?;
        let mut digests = digests.to_vec();
        let pulled = matches!(names, Names::Pulled(..)) && before.as_ref().is_none_or(|record| record.pulled);
        digests.extend(before.map(|r| r.digests).unwrap_or_default());
        digests.sort();
        digests.dedup();
        self.write(&self.config_path(&id), config)?;
        let record = Record {
            stack: self.stack(&layers)?,
            layers,
            volumes,
            size_bytes,
            digests,
            pulled,
        };
        self.write(
            &self.record_path(&id),
            &serde_json::to_vec(&record).map_err(|e| ImageError::bad(&id, e.to_string()))?,
        )?;
        let mut all = self.names()?;
        match names {
            Names::Here(names) => all.extend(names.iter().map(|name| (name.clone(), Named::Here(id.clone())))),
            Names::Pulled(name, digest) => {
                let (id, digest) = (id.clone(), digest.to_owned());
                all.insert(name.to_owned(), Named::Pulled { id, digest });
            }
        }
        self.write_names(&all)?;
        self.read(&id, &all)?.ok_or(ImageError::NotFound(id))
    }

    /// Where something may be made, on the same file system.
    pub(crate) fn temporary_path(&self) -> PathBuf {
        self.dir.join("tmp").join(uuid::Uuid::new_v4().to_string())
    }

    /// Where a blob may be put on its way; locked while somebody is at it.
    pub(crate) fn partial_path(&self) -> PathBuf {
        self.temporary_path().with_extension(PARTIAL)
    }

    /// A directory of our own on the same file system.
    pub(super) fn temporary(&self) -> Result<PathBuf, ImageError> {
        let path = self.temporary_path();
        fs::create_dir(&path).map_err(ImageError::io(&path))?;
        Ok(path)
    }

    fn read(&self, id: &str, names: &BTreeMap<String, Named>) -> Result<Option<Image>, ImageError> {
        let Some(record) = self.record(id)? else {
            return Ok(None);
        };
        let path = self.config_path(id);
        let parsed: ConfigFile = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| ImageError::bad(&path, e.to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ImageError::io(path)(error)),
        };
        let section = parsed.config.unwrap_or_default();
        let own = names.iter().filter(|(_, named)| named.id() == id);
        Ok(Some(Image {
            id: id.to_owned(),
            names: own.clone().map(|(name, _)| name.clone()).collect(),
            registry_names: own
                .clone()
                .filter(|(_, named)| matches!(named, Named::Pulled { .. }))
                .map(|(name, _)| name.clone())
                .collect(),
            digests: digests(own, &record),
            size_bytes: record.size_bytes,
            config: ImageConfig {
                entrypoint: section.entrypoint.unwrap_or_default(),
                cmd: section.cmd.unwrap_or_default(),
                env: section.env.unwrap_or_default(),
                user: section.user,
                working_dir: section.working_dir,
                stop_signal: section.stop_signal,
            },
        }))
    }

    pub(super) fn record(&self, id: &str) -> Result<Option<Record>, ImageError> {
        let path = self.record_path(id);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| ImageError::bad(&path, e.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io(path)(error)),
        }
    }

    fn record_path(&self, id: &str) -> PathBuf {
        self.dir
            .join("images")
            .join(format!("{}.json", id.trim_start_matches("sha256:")))
    }

    fn config_path(&self, id: &str) -> PathBuf {
        self.dir.join("configs").join(id.trim_start_matches("sha256:"))
    }

    pub(super) fn names(&self) -> Result<BTreeMap<String, Named>, ImageError> {
        let path = self.dir.join("names.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| ImageError::bad(&path, e.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(ImageError::io(path)(error)),
        }
    }

    fn write_names(&self, names: &BTreeMap<String, Named>) -> Result<(), ImageError> {
        let path = self.dir.join("names.json");
        let bytes = serde_json::to_vec_pretty(names).map_err(|e| ImageError::bad(&path, e.to_string()))?;
        self.write(&path, &bytes)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
        let temporary = self.temporary_path();
        let written = synced(&temporary, bytes).and_then(|()| {
            fs::rename(&temporary, path)?;
            // The name, too, is on the disk when this returns.
            path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
        });
        if written.is_err() {
            // A full disk keeps no half of it.
            let _ = fs::remove_file(&temporary);
        }
        written.map_err(ImageError::io(path))
    }

    /// Held by whoever changes names; released when dropped.
    pub(super) fn lock(&self) -> Result<File, ImageError> {
        let path = self.dir.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(ImageError::io(&path))?;
        file.lock().map_err(ImageError::io(&path))?;
        Ok(file)
    }

    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.dir.join("tmp")) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == PARTIAL) {
                // Its pull is over if nobody holds it, however young it is: these are large.
                if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                    let _ = fs::remove_file(path);
                }
                continue;
            }
            let stale = entry
                .metadata()
                .and_then(|m| m.modified())
                .is_ok_and(|at| at.elapsed().is_ok_and(|age| age > STALE_AFTER));
            if stale && entry.path().is_dir() {
                let _ = remove_all(&entry.path());
            } else if stale {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Writes a file so that it is on the disk when this returns.
fn synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Names with digests of an image that has these names.
fn digests<'a>(own: impl Iterator<Item = (&'a String, &'a Named)>, record: &Record) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for (name, named) in own {
        let Named::Pulled { digest, .. } = named else { continue };
        let path = ImageName::of(name).without_version();
        for digest in std::iter::once(digest).chain(&record.digests) {
            let full = format!("{path}@{digest}");
            if !digest.is_empty() && !all.contains(&full) {
                all.push(full);
            }
        }
    }
    all
}
