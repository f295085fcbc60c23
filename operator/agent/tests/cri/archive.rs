//! Images for the tests: an OCI layout with one layer of folders and files.

use std::fs::File;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A program that does nothing but wait: sandboxes have an image of their own, and it may need nothing of the machine.
pub(crate) fn pause() -> Vec<u8> {
    let (machine, code): (u16, &[u8]) = match std::env::consts::ARCH {
        // pause(2), again and again
        "x86_64" => (62, &[0xb8, 0x22, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]),
        // ppoll(2) of nothing, again and again
        _ => (
            183,
            &[
                0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2, 0x28,
                0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xfa, 0xff, 0xff, 0x17,
            ],
        ),
    };
    const BASE: u64 = 0x0040_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + code.len() as u64;
    let mut elf = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |bytes: &[u8]| elf.extend_from_slice(bytes);
    put(&2u16.to_le_bytes());
    put(&machine.to_le_bytes());
    put(&1u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        put(&word.to_le_bytes());
    }
    put(&0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        put(&half.to_le_bytes());
    }
    for word in [1u32, 5] {
        put(&word.to_le_bytes());
    }
    for word in [0, BASE, BASE, size, size, 0x1000] {
        put(&word.to_le_bytes());
    }
    put(code);
    elf
}

/// Writes an image of that name; `variant` makes it another one than the next.
pub(crate) fn write(path: &Path, name: &str, variant: &str, entrypoint: &str) {
    let mut layer = tar::Builder::new(Vec::new());
    for folder in ["bin", "lib", "lib64", "usr", "proc", "sys", "dev", "etc", "tmp"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(0o755);
        layer.append_data(&mut header, folder, &[][..]).expect("into memory");
    }
    append(&mut layer, "pause", &pause());
    append(&mut layer, "variant", variant.as_bytes());
    let layer = layer.into_inner().expect("into memory");
    let arch = if std::env::consts::ARCH == "x86_64" {
        "amd64"
    } else {
        "arm64"
    };
    let config = json!({"architecture": arch, "os": "linux", "config": {"Entrypoint": [entrypoint], "Env": ["FROM=image"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let config = config.to_string().into_bytes();
    let blob = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len()});
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", &config), "layers": [blob("layer.v1.tar", &layer)]});
    let manifest = manifest.to_string().into_bytes();
    let mut listed = blob("manifest.v1+json", &manifest);
    listed["annotations"] = json!({"io.containerd.image.name": name});
    let index: Value = json!({"schemaVersion": 2, "manifests": [listed]});
    let mut archive = tar::Builder::new(File::create(path).expect("a file"));
    append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    append(&mut archive, "index.json", index.to_string().as_bytes());
    for bytes in [&layer, &config, &manifest] {
        append(
            &mut archive,
            &format!("blobs/{}", digest(bytes).replace(':', "/")),
            bytes,
        );
    }
    archive.finish().expect("a file");
}

fn append<W: std::io::Write>(archive: &mut tar::Builder<W>, path: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, path, bytes).expect("written");
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
