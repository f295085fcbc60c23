//! Writes an image of files as an archive that other tools take: an OCI layout, and in it what `docker load` looks for.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::build::{Tree, config, layers, write_tar};
use super::config::architecture;
use super::name::normalise;
use super::{BuildSpec, ImageError};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

impl BuildSpec {
    /// Writes the image into a tar file, without a store. The same files give the same archive. Answers the image's full name and id.
    ///
    /// # Errors
    /// A bad name, a file that cannot be read, a library that is missing, an archive that cannot be written.
    pub fn write_archive(&self, path: &Path) -> Result<(String, String), ImageError> {
        // Whoever looks finds all of it or nothing.
        let part = beside(path, ".part");
        let result = write(self, &part).and_then(|written| {
            fs::rename(&part, path).map_err(ImageError::io(path))?;
            Ok(written)
        });
        if result.is_err() {
            let _ = fs::remove_file(&part);
        }
        result
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn write(spec: &BuildSpec, path: &Path) -> Result<(String, String), ImageError> {
    let name = normalise(&spec.name)?;
    let mut archive = Archive {
        tar: tar::Builder::new(io::BufWriter::new(File::create(path).map_err(ImageError::io(path))?)),
        path,
    };
    archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let (mut diff_ids, mut descriptors) = (Vec::new(), Vec::new());
    let scratch = beside(path, ".layer");
    for tree in &layers(spec)? {
        let added = Packed::write(&scratch, tree).and_then(|packed| {
            diff_ids.push(packed.diff_id.clone());
            archive.layer(packed)
        });
        let _ = fs::remove_file(&scratch);
        descriptors.push(added?);
    }
    let config = serde_json::to_vec(&config(spec, diff_ids)).map_err(|e| ImageError::bad(&spec.name, e.to_string()))?;
    let config = archive.blob(CONFIG, &config)?;
    let id = config["digest"].as_str().unwrap_or_default().to_owned();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors});
    let mut manifest = archive.blob(MANIFEST, manifest.to_string().as_bytes())?;
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    manifest["platform"] = json!({"architecture": architecture(), "os": "linux"});
    manifest["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    archive.file("index.json", index.to_string().as_bytes())?;
    let place = |descriptor: &Value| place(descriptor["digest"].as_str().unwrap_or_default());
    let docker = json!([{
        "Config": place(&config), "RepoTags": [name], "Layers": descriptors.iter().map(place).collect::<Vec<_>>(),
    }]);
    archive.file("manifest.json", docker.to_string().as_bytes())?;
    let flushed = archive.tar.into_inner().and_then(|mut out| out.flush());
    flushed.map_err(ImageError::io(path))?;
    Ok((name, id))
}

/// Where a layout has a blob.
fn place(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

struct Archive<'a> {
    tar: tar::Builder<io::BufWriter<File>>,
    path: &'a Path,
}

impl Archive<'_> {
    fn file(&mut self, name: &str, bytes: &[u8]) -> Result<(), ImageError> {
        self.entry(name, bytes.len() as u64, bytes)
    }

    fn entry(&mut self, name: &str, size: u64, bytes: impl Read) -> Result<(), ImageError> {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        header.set_size(size);
        let added = self.tar.append_data(&mut header, name, bytes);
        added.map_err(ImageError::io(self.path))
    }

    /// Adds a small blob; answers its descriptor.
    fn blob(&mut self, kind: &str, bytes: &[u8]) -> Result<Value, ImageError> {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        self.file(&place(&digest), bytes)?;
        Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
    }

    fn layer(&mut self, mut packed: Packed) -> Result<Value, ImageError> {
        packed.file.rewind().map_err(ImageError::io(self.path))?;
        self.entry(&place(&packed.digest), packed.size, io::BufReader::new(packed.file))?;
        Ok(json!({"mediaType": LAYER, "digest": packed.digest, "size": packed.size}))
    }
}

/// A compressed layer in a file of its own: its size has to be known before it can be put into a tar.
struct Packed {
    file: File,
    size: u64,
    digest: String,
    diff_id: String,
}

impl Packed {
    fn write(path: &Path, tree: &Tree) -> Result<Self, ImageError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(path);
        let file = Hashing::new(file.map_err(ImageError::io(path))?);
        let plain = Hashing::new(GzEncoder::new(file, Compression::default()));
        let plain = write_tar(tree, io::BufWriter::with_capacity(1 << 17, plain))?;
        let plain = plain
            .into_inner()
            .map_err(|error| ImageError::io(path)(error.into_error()))?;
        let packed = plain.inner.finish().map_err(ImageError::io(path))?;
        Ok(Self {
            size: packed.bytes,
            digest: format!("sha256:{}", hex::encode(packed.hash.finalize())),
            diff_id: format!("sha256:{}", hex::encode(plain.hash.finalize())),
            file: packed.inner,
        })
    }
}

/// Hashes and counts what is written through it.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashing<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
