//! Manifests and indexes, of the OCI (image specification) and of Docker (image manifest version 2, schema 2). Pure.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::image::LAYERS_MAX;

/// What we understand, in the words of an `Accept` header.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// A blob or manifest that is pointed to.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(super) struct Descriptor {
    #[serde(default, rename = "mediaType")]
    pub(super) media_type: String,
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

/// What lies under a tag or digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// One image.
    Manifest {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
    /// Images for several machines, and the one that is for this.
    Index(Descriptor),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default, rename = "schemaVersion")]
    schema_version: u32,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// The digest of bytes, `sha256:…`.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// Reads a manifest or an index, for a machine of this architecture (Go's names).
///
/// # Errors
/// What is wrong with it, as the end of a sentence that begins with the image's name.
pub(super) fn read(bytes: &[u8], architecture: &str) -> Result<Document, String> {
    let raw: Raw = serde_json::from_slice(bytes).map_err(|e| format!("its manifest cannot be read: {e}"))?;
    if raw.schema_version != 2 {
        return Err(format!(
            "its manifest has version {}, which is not supported",
            raw.schema_version
        ));
    }
    if let Some(manifests) = raw.manifests {
        return choose(&manifests, architecture).map(Document::Index);
    }
    let (Some(config), Some(layers)) = (raw.config, raw.layers) else {
        return Err("what lies there is neither an image nor an index of images".to_owned());
    };
    if layers.len() > LAYERS_MAX {
        return Err(format!(
            "it has {} layers; at most {LAYERS_MAX} are supported",
            layers.len()
        ));
    }
    for blob in layers.iter().chain([&config]) {
        if !afloat_words::image::is_digest(&blob.digest) {
            return Err(format!(
                "its manifest names a blob {:?}, which is no sha256 digest",
                blob.digest
            ));
        }
    }
    // Both the OCI and Docker ask for it. Without it a registry could send bytes until the disk is full.
    if let Some(blob) = layers.iter().chain([&config]).find(|blob| blob.size == 0) {
        return Err(format!(
            "its manifest does not say how large the blob {} is",
            blob.digest
        ));
    }
    Ok(Document::Manifest { config, layers })
}

fn choose(manifests: &[Descriptor], architecture: &str) -> Result<Descriptor, String> {
    let fitting = |descriptor: &&Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.is_some_and(|p| p.os == "linux" && p.architecture == architecture)
    };
    // The lowest variant runs on every machine of the architecture (`v8` is all there is of arm64).
    let variant = |descriptor: &&Descriptor| {
        let platform = descriptor.platform.as_ref();
        platform.and_then(|p| p.variant.clone()).unwrap_or_default()
    };
    let chosen = manifests.iter().filter(fitting).min_by_key(variant);
    let chosen = chosen.or_else(|| {
        manifests
            .first()
            .filter(|d| manifests.len() == 1 && d.platform.is_none())
    });
    let Some(chosen) = chosen else {
        let platforms = manifests.iter().filter_map(|d| d.platform.as_ref());
        // Attestations stand in indexes as images for an unknown machine.
        let known = platforms.filter(|p| p.os != "unknown");
        let list: Vec<_> = known.map(|p| format!("{}/{}", p.os, p.architecture)).collect();
        return Err(format!(
            "no image for linux/{architecture}, only for: {}",
            list.join(", ")
        ));
    };
    if !afloat_words::image::is_digest(&chosen.digest) {
        return Err(format!(
            "its index names {:?}, which is no sha256 digest",
            chosen.digest
        ));
    }
    Ok(chosen.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(letter: &str) -> String {
        format!("sha256:{}", letter.repeat(64))
    }

    fn read_json(value: &serde_json::Value) -> Result<Document, String> {
        read(value.to_string().as_bytes(), "amd64")
    }

    #[test]
    fn an_index_gives_the_image_for_this_machine() {
        let entry = |letter: &str, os: &str, architecture: &str, variant: Option<&str>| {
            let mut platform = json!({"os": os, "architecture": architecture});
            if let Some(variant) = variant {
                platform["variant"] = json!(variant);
            }
            json!({"digest": of(letter), "size": 1, "platform": platform})
        };
        let index = json!({"schemaVersion": 2, "manifests": [
            entry("a", "linux", "arm64", Some("v8")), entry("b", "windows", "amd64", None),
            entry("c", "linux", "amd64", Some("v3")), entry("d", "linux", "amd64", None), entry("e", "unknown", "unknown", None),
        ]});
        assert!(matches!(read_json(&index), Ok(Document::Index(d)) if d.digest == of("d")));
        let none = json!({"schemaVersion": 2, "manifests": [entry("a", "linux", "arm64", None), entry("e", "unknown", "unknown", None)]});
        assert_eq!(
            read_json(&none),
            Err("no image for linux/amd64, only for: linux/arm64".into())
        );
        let bare = json!({"schemaVersion": 2, "manifests": [{"digest": of("f")}]});
        assert!(matches!(read_json(&bare), Ok(Document::Index(d)) if d.digest == of("f")));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let blob = json!({"digest": of("a"), "size": 3});
        let good = json!({"schemaVersion": 2, "config": blob, "layers": [blob]});
        assert!(matches!(read_json(&good), Ok(Document::Manifest { layers, .. }) if layers[0].size == 3));
        for bad in [
            json!({"schemaVersion": 1, "fsLayers": []}),
            json!({"schemaVersion": 2}),
            json!({"schemaVersion": 2, "config": blob}),
            json!({"schemaVersion": 2, "config": {"digest": "md5:1"}, "layers": []}),
            json!({"schemaVersion": 2, "config": {"digest": of("a")}, "layers": []}),
            json!({"schemaVersion": 2, "config": blob, "layers": [{"digest": of("b"), "size": 0}]}),
            json!({"schemaVersion": 2, "config": blob, "layers": [{"digest": "../../etc"}]}),
            json!([]),
            json!({"schemaVersion": 2, "config": blob, "layers": vec![blob; 501]}),
        ] {
            assert!(read_json(&bad).is_err(), "{bad}");
        }
    }
}
