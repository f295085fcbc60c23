//! The images that are released: this program, and above it a layer of noise that no two versions share and nothing compresses.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::registry::{Blob, Registry, digest};

/// Where the application is in a registry.
const REPOSITORY: &str = "bench/web";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Makes versions of the application. All of it blocks.
pub(super) struct Shelf {
    dir: PathBuf,
    /// Configuration and layers of the version without noise.
    config: Value,
    layers: Vec<Value>,
}

impl Shelf {
    /// Makes the layers that all versions share and puts them into the registry.
    pub(super) fn stock(dir: &Path, registry: &Registry) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let spec = afloat_cluster::own_image("web:base", &["app", "web"], &[])?;
        let archive = dir.join("base.tar");
        spec.write_archive(&archive)?;
        let blobs = blobs(&archive)?;
        let read = |digest: &str| -> anyhow::Result<Value> {
            let blob = blobs.iter().find(|(name, ..)| name == digest);
            let (_, from, length) = blob.with_context(|| format!("{} lacks {digest}", archive.display()))?;
            Ok(serde_json::from_reader(part(&archive, *from, *length)?)?)
        };
        let index = blobs.iter().find(|(name, ..)| name == "index.json");
        let (_, from, length) = index.context("the archive has no index")?;
        let index: Value = serde_json::from_reader(part(&archive, *from, *length)?)?;
        let manifest = read(index["manifests"][0]["digest"].as_str().unwrap_or_default())?;
        let config = read(manifest["config"]["digest"].as_str().unwrap_or_default())?;
        let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
        for (name, from, length) in blobs.iter().filter(|(name, ..)| name.contains(':')) {
            registry.put_blob(name, Blob::part(&archive, *from, *length));
        }
        Ok(Self {
            dir: dir.to_owned(),
            config,
            layers,
        })
    }

    /// Puts a version into the registry, with so much noise of its own. Answers its full name.
    pub(super) fn put(&self, registry: &Registry, tag: &str, noise: Option<u64>) -> anyhow::Result<String> {
        let (mut config, mut layers) = (self.config.clone(), self.layers.clone());
        if let Some(bytes) = noise {
            let path = self.dir.join(format!("{tag}.tar"));
            let (digest, length) = write_noise(&path, bytes, rand::random())
                .with_context(|| format!("cannot write {}", path.display()))?;
            registry.put_blob(&digest, Blob::part(&path, 0, length));
            layers
                .push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": length}));
            let ids = config["rootfs"]["diff_ids"].as_array_mut();
            // It is not compressed, so that it is known by what it is unpacked.
            ids.context("the image has no layers")?.push(json!(digest));
        }
        let config = config.to_string();
        let digest = digest(config.as_bytes());
        let descriptor =
            json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest, "size": config.len()});
        registry.put_blob(&digest, Blob::text(config));
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor, "layers": layers});
        registry.put_manifest(&format!("{REPOSITORY}/manifests/{tag}"), MANIFEST, manifest.to_string());
        Ok(format!("{}/{REPOSITORY}:{tag}", registry.address))
    }
}

/// What is in an OCI archive: digest or name, where it begins, and how long it is.
fn blobs(archive: &Path) -> anyhow::Result<Vec<(String, u64, u64)>> {
    let mut tar = tar::Archive::new(BufReader::new(File::open(archive)?));
    let mut found = Vec::new();
    for entry in tar.entries_with_seek()? {
        let entry = entry?;
        let name = entry.path()?.to_string_lossy().into_owned();
        let name = name
            .strip_prefix("blobs/sha256/")
            .map_or_else(|| name.clone(), |hex| format!("sha256:{hex}"));
        found.push((name, entry.raw_file_position(), entry.size()));
    }
    Ok(found)
}

fn part(path: &Path, from: u64, length: u64) -> io::Result<impl Read> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    Ok(file.take(length))
}

/// Writes a layer with one file of noise; answers its digest and length.
fn write_noise(path: &Path, bytes: u64, seed: u64) -> io::Result<(String, u64)> {
    let out = Hashing {
        inner: BufWriter::with_capacity(1 << 20, File::create(path)?),
        hash: Sha256::new(),
        length: 0,
    };
    let mut builder = tar::Builder::new(out);
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, "noise", Noise(StdRng::seed_from_u64(seed)).take(bytes))?;
    let mut out = builder.into_inner()?;
    out.flush()?;
    Ok((format!("sha256:{}", hex::encode(out.hash.finalize())), out.length))
}

/// Bytes by chance, without end.
struct Noise(StdRng);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.fill_bytes(buffer);
        Ok(buffer.len())
    }
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
    length: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_a_layer_of_its_own_each_time_and_does_not_compress() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("layer.tar");
        let (first, length) = write_noise(&path, 100_000, 1).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!((length, digest(&bytes)), (bytes.len() as u64, first.clone()));
        assert_ne!(write_noise(&path, 100_000, 2).unwrap().0, first);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let sizes: Vec<u64> = archive.entries().unwrap().map(|entry| entry.unwrap().size()).collect();
        assert_eq!(sizes, [100_000]);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&bytes).unwrap();
        assert!(packed.finish().unwrap().len() > 99_000);
    }
}
