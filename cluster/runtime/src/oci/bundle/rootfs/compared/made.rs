//! Layers written byte by byte, as tools do that others would not think of, and archives of them.

use std::io::Write as _;
use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::image::architecture;
use anyhow::Result;

/// One entry of a layer. `records`: PAX records, as they are.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) path: String,
    pub(super) kind: u8,
    pub(super) target: String,
    pub(super) data: Vec<u8>,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) modified: u64,
    pub(super) records: Vec<(String, Vec<u8>)>,
}

impl Item {
    fn new(kind: u8, path: &str, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            kind,
            target: String::new(),
            data: Vec::new(),
            mode,
            owner: (0, 0),
            modified: 1,
            records: Vec::new(),
        }
    }

    pub(super) fn file(path: &str, mode: u32, data: &[u8]) -> Self {
        let data = data.to_vec();
        Self {
            data,
            ..Self::new(b'0', path, mode)
        }
    }

    pub(super) fn folder(path: &str, mode: u32) -> Self {
        Self::new(b'5', path, mode)
    }

    pub(super) fn link(path: &str, target: &str) -> Self {
        let target = target.to_owned();
        Self {
            target,
            ..Self::new(b'2', path, 0o777)
        }
    }

    pub(super) fn hard_link(path: &str, target: &str, mode: u32) -> Self {
        let target = target.to_owned();
        Self {
            target,
            ..Self::new(b'1', path, mode)
        }
    }

    pub(super) fn pipe(path: &str, mode: u32) -> Self {
        Self::new(b'6', path, mode)
    }

    pub(super) fn whiteout(path: &str) -> Self {
        Self::new(b'0', path, 0o644)
    }

    pub(super) fn owned(self, uid: u32, gid: u32) -> Self {
        let owner = (uid, gid);
        Self { owner, ..self }
    }

    pub(super) fn at(self, modified: u64) -> Self {
        Self { modified, ..self }
    }

    pub(super) fn record(mut self, key: &str, value: &[u8]) -> Self {
        self.records.push((key.to_owned(), value.to_vec()));
        self
    }

    /// A file with holes in one of GNU's three forms of PAX.
    pub(super) fn sparse(path: &str, mode: u32, form: u8, size: u64, pieces: &[(u64, &[u8])]) -> Self {
        let data = pieces
            .iter()
            .flat_map(|(_, data)| data.iter().copied())
            .collect::<Vec<u8>>();
        let (size, count) = (size.to_string(), pieces.len().to_string());
        let stored = format!("GNUSparseFile.1/{path}");
        match form {
            0 => {
                let mut item = Self::file(path, mode, &data);
                item = item.record("GNU.sparse.size", size.as_bytes());
                item = item.record("GNU.sparse.numblocks", count.as_bytes());
                for (offset, data) in pieces {
                    item = item.record("GNU.sparse.offset", offset.to_string().as_bytes());
                    item = item.record("GNU.sparse.numbytes", data.len().to_string().as_bytes());
                }
                item
            }
            1 => {
                let map: Vec<_> = pieces
                    .iter()
                    .map(|(offset, data)| format!("{offset},{}", data.len()))
                    .collect();
                let item = Self::file(&stored, mode, &data).record("GNU.sparse.name", path.as_bytes());
                let item = item.record("GNU.sparse.size", size.as_bytes());
                let item = item.record("GNU.sparse.numblocks", count.as_bytes());
                item.record("GNU.sparse.map", map.join(",").as_bytes())
            }
            _ => {
                let mut map = format!("{count}\n");
                for (offset, data) in pieces {
                    map.push_str(&format!("{offset}\n{}\n", data.len()));
                }
                let mut all = map.into_bytes();
                all.resize(all.len().next_multiple_of(512), 0);
                all.extend(data);
                let item = Self::file(&stored, mode, &all).record("GNU.sparse.name", path.as_bytes());
                let item = item.record("GNU.sparse.realsize", size.as_bytes());
                item.record("GNU.sparse.major", b"1").record("GNU.sparse.minor", b"0")
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut records = self.records.clone();
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        for (text, field, key) in [
            (&self.path, &mut old.name, "path"),
            (&self.target, &mut old.linkname, "linkpath"),
        ] {
            match text.as_bytes() {
                short if short.len() <= field.len() => field[..short.len()].copy_from_slice(short),
                long => records.push((key.to_owned(), long.to_vec())),
            }
        }
        header.set_entry_type(tar::EntryType::new(self.kind));
        header.set_mode(self.mode);
        header.set_uid(self.owner.0.into());
        header.set_gid(self.owner.1.into());
        header.set_mtime(self.modified);
        header.set_size(self.data.len() as u64);
        header.set_cksum();
        let mut all = Vec::new();
        if !records.is_empty() {
            let body: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..8].copy_from_slice(b"PaxHead/");
            header.set_entry_type(tar::EntryType::XHeader);
            for set in [tar::Header::set_uid, tar::Header::set_gid] {
                set(&mut header, 0);
            }
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_size(body.len() as u64);
            header.set_cksum();
            all.extend(padded(header.as_bytes(), &body));
        }
        all.extend(padded(header.as_bytes(), &self.data));
        all
    }
}

fn padded(header: &[u8; 512], data: &[u8]) -> Vec<u8> {
    let mut all = [&header[..], data].concat();
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = body.len() + 1;
    while length.to_string().len() + body.len() != length {
        length = length.to_string().len() + body.len();
    }
    [length.to_string().as_bytes(), &body].concat()
}

/// A layer, its diffID and how it is packed.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    diff_id: String,
    kind: &'static str,
    blob: Vec<u8>,
    /// Its entries, for whoever looks for a difference.
    pub(super) listing: String,
}

/// `packing`: 0 not at all, 1 gzip, 2 zstd.
pub(super) fn packed(items: &[Item], packing: u64) -> Result<Packed> {
    let mut plain: Vec<u8> = items.iter().flat_map(Item::bytes).collect();
    plain.resize(plain.len() + 1024, 0);
    let diff_id = digest(&plain);
    let (kind, blob) = match packing {
        0 => ("application/vnd.oci.image.layer.v1.tar", plain),
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&plain)?;
            ("application/vnd.oci.image.layer.v1.tar+gzip", encoder.finish()?)
        }
        _ => (
            "application/vnd.oci.image.layer.v1.tar+zstd",
            zstd::encode_all(&plain[..], 1)?,
        ),
    };
    let line = |item: &Item| {
        format!(
            "{} {} {} {:o}",
            char::from(item.kind),
            item.path,
            item.target,
            item.mode
        )
    };
    let listing = items.iter().map(line).collect::<Vec<_>>().join("\n");
    Ok(Packed {
        diff_id,
        kind,
        blob,
        listing,
    })
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// An OCI layout as a tar.
pub(super) fn write_archive(path: &Path, name: &str, layers: &[Packed]) -> Result<()> {
    let diff_ids: Vec<_> = layers.iter().map(|layer| &layer.diff_id).collect();
    let config = json!({
        "architecture": architecture(), "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = config.to_string().into_bytes();
    let descriptor = |kind: &str, blob: &[u8]| json!({ "mediaType": kind, "digest": digest(blob), "size": blob.len() });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|layer| descriptor(layer.kind, &layer.blob)).collect::<Vec<_>>(),
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({ "io.containerd.image.name": format!("docker.io/library/{name}:v1") });
    let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
    let mut archive = tar::Builder::new(std::fs::File::create(path)?);
    let mut add = |name: &str, bytes: &[u8]| -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        Ok(archive.append_data(&mut header, name, bytes)?)
    };
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", index.as_bytes())?;
    let mut written = std::collections::BTreeSet::new();
    for blob in layers.iter().map(|layer| &layer.blob).chain([&config, &manifest]) {
        let digest = digest(blob);
        if written.insert(digest.clone()) {
            add(&format!("blobs/sha256/{}", &digest[7..]), blob)?;
        }
    }
    Ok(archive.finish()?)
}
