//! Writes an image of files as an archive that other tools take: an OCI layout, and in it what `docker load` looks for.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::build::{Tree, config, layers, write_tar};
use super::config::architecture;
use super::name::normalise;
use super::{BuildSpec, ImageError};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
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
    let mut descriptors = Vec::new();
    for tree in &layers(spec)? {
        descriptors.push(archive.layer(tree)?);
    }
    // Layers are not compressed, so that they are known by what they are unpacked.
    let diff_ids = descriptors.iter().map(|layer| digest(layer).to_owned()).collect();
    let config = serde_json::to_vec(&config(spec, diff_ids)).map_err(|e| ImageError::bad(&spec.name, e.to_string()))?;
    let config = archive.blob(CONFIG, &config)?;
    let id = digest(&config).to_owned();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": descriptors});
    let mut manifest = archive.blob(MANIFEST, manifest.to_string().as_bytes())?;
    let tag = name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    manifest["platform"] = json!({"architecture": architecture(), "os": "linux"});
    manifest["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": tag});
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest]});
    archive.file("index.json", index.to_string().as_bytes())?;
    let place = |descriptor: &Value| place(digest(descriptor));
    let docker = json!([{
        "Config": place(&config), "RepoTags": [name], "Layers": descriptors.iter().map(place).collect::<Vec<_>>(),
    }]);
    archive.file("manifest.json", docker.to_string().as_bytes())?;
    let flushed = archive.tar.into_inner().and_then(|mut out| out.flush());
    flushed.map_err(ImageError::io(path))?;
    Ok((name, id))
}

fn digest(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap_or_default()
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
        let added = self.tar.append_data(&mut header(bytes.len() as u64), name, bytes);
        added.map_err(ImageError::io(self.path))
    }

    /// Adds a small blob; answers its descriptor.
    fn blob(&mut self, kind: &str, bytes: &[u8]) -> Result<Value, ImageError> {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
        self.file(&place(&digest), bytes)?;
        Ok(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}))
    }

    /// Adds a layer. Its size and digest come before it, so that it is made twice.
    fn layer(&mut self, tree: &Tree) -> Result<Value, ImageError> {
        let seen = write_tar(tree, Hasher::default())?;
        let (size, hash) = (seen.bytes, seen.hash.finalize());
        let digest = format!("sha256:{}", hex::encode(hash));
        let mut header = header(size);
        let path = self.path;
        header.set_path(place(&digest)).map_err(ImageError::io(path))?;
        header.set_cksum();
        let out = self.tar.get_mut();
        out.write_all(header.as_bytes()).map_err(ImageError::io(path))?;
        let seen = Hasher::default();
        let again = write_tar(tree, Through { out: &mut *out, seen })?.seen;
        if again.hash.finalize() != hash {
            return Err(ImageError::bad(path, "a file changed while it was read"));
        }
        let rest = usize::try_from(size % 512).unwrap_or(0);
        out.write_all(&[0; 512][..(512 - rest) % 512])
            .map_err(ImageError::io(path))?;
        Ok(json!({"mediaType": LAYER, "digest": digest, "size": size}))
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

/// Keeps the digest and the size of what it is given.
#[derive(Default)]
struct Hasher {
    hash: Sha256,
    bytes: u64,
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes what goes through it, too: the second time must be as the first.
struct Through<W> {
    out: W,
    seen: Hasher,
}

impl<W: Write> Write for Through<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.seen.write(&bytes[..written])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
