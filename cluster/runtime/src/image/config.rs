//! The configuration of an image as the OCI image specification writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};

use crate::below::plain;

/// VOLUMEs of an image. Each costs a folder and a mount.
const VOLUMES_MAX: usize = 256;
/// What the runtime mounts in every container.
const OURS: [&str; 3] = ["dev", "proc", "sys"];

/// The configuration as the OCI image specification writes it; only what we read.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ConfigFile {
    #[serde(default, deserialize_with = "or_null")]
    pub(super) architecture: String,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) os: String,
    #[serde(default)]
    pub(super) config: Option<ConfigSection>,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) rootfs: RootFs,
}

/// Tools in Go write null for what is empty.
fn or_null<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A list of words, or (from builders of old) one word.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<String>),
        One(String),
    }
    Ok(Option::deserialize(deserializer)?.map(|words| match words {
        Words::Many(words) => words,
        Words::One(word) => vec![word],
    }))
}

/// The part that says how to start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ConfigSection {
    #[serde(deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) env: Option<Vec<String>>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub(super) entrypoint: Option<Vec<String>>,
    #[serde(deserialize_with = "words", skip_serializing_if = "Option::is_none")]
    pub(super) cmd: Option<Vec<String>>,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub(super) working_dir: String,
    #[serde(deserialize_with = "or_null", skip_serializing_if = "String::is_empty")]
    pub(super) stop_signal: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) labels: Option<BTreeMap<String, String>>,
    /// VOLUME; the values mean nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) volumes: Option<BTreeMap<String, serde_json::Value>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct RootFs {
    #[serde(rename = "type", default, deserialize_with = "or_null")]
    pub(super) kind: String,
    #[serde(default, deserialize_with = "or_null")]
    pub(super) diff_ids: Vec<String>,
}

impl ConfigFile {
    /// VOLUMEs as absolute paths, outer ones first. None is all of the root, or where a container has what every container has.
    ///
    /// # Errors
    /// There are too many, as the end of a sentence.
    pub(super) fn volumes(&self) -> Result<Vec<PathBuf>, String> {
        let section = self.config.as_ref();
        let named = section.and_then(|section| section.volumes.as_ref());
        let paths = named
            .into_iter()
            .flat_map(BTreeMap::keys)
            .map(|path| plain(Path::new(path)));
        let ours = |path: &PathBuf| path.as_os_str().is_empty() || OURS.iter().any(|name| path.starts_with(name));
        let paths: BTreeSet<PathBuf> = paths.filter(|path| !ours(path)).collect();
        if paths.len() > VOLUMES_MAX {
            return Err(format!(
                "has {} volumes; at most {VOLUMES_MAX} are supported",
                paths.len()
            ));
        }
        Ok(paths.iter().map(|path| Path::new("/").join(path)).collect())
    }
}

/// Whether an image says that it is for another machine. Not all tools use Go's names.
pub(super) fn is_foreign(architecture: &str) -> bool {
    let known = match architecture {
        "x86_64" | "x86-64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    !known.is_empty() && known != self::architecture()
}

/// This machine's architecture, as images name it (Go's names).
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_places_that_an_image_may_have() {
        let of = |paths: &[String]| {
            let volumes = paths
                .iter()
                .map(|path| (path.clone(), serde_json::Value::Null))
                .collect();
            let config = Some(ConfigSection {
                volumes: Some(volumes),
                ..ConfigSection::default()
            });
            ConfigFile {
                config,
                ..ConfigFile::default()
            }
            .volumes()
        };
        let paths = ["/data/inner/", "data", "/", "/proc", "/dev/shm", "/a/../data", ""].map(str::to_owned);
        assert_eq!(of(&paths).unwrap(), [Path::new("/data"), Path::new("/data/inner")]);
        let many: Vec<String> = (0..300).map(|number| format!("/{number}")).collect();
        assert!(of(&many).unwrap_err().contains("300 volumes"));
    }

    #[test]
    fn what_tools_write_is_read() {
        let empty = r#"{"architecture":null,"os":null,"config":null,"rootfs":null,"history":null}"#;
        let nulls = r#"{"config":{"User":null,"Env":null,"Entrypoint":null,"Cmd":null,"WorkingDir":null,
            "StopSignal":null,"Labels":null,"Volumes":null},"rootfs":{"type":null,"diff_ids":null}}"#;
        for text in ["{}", empty, nulls] {
            let config: ConfigFile = serde_json::from_str(text).unwrap();
            assert!(config.rootfs.diff_ids.is_empty(), "{text}");
            let section = config.config.unwrap_or_default();
            assert!(section.cmd.is_none() && section.entrypoint.is_none() && section.user.is_empty());
        }
        let text = r#"{"architecture":"amd64","config":{"Entrypoint":"/run","Cmd":["a","b"],"Volumes":{"/data":{}}}}"#;
        let section = serde_json::from_str::<ConfigFile>(text).unwrap().config.unwrap();
        assert_eq!(section.entrypoint, Some(vec!["/run".to_owned()]));
        assert_eq!(section.cmd, Some(vec!["a".to_owned(), "b".to_owned()]));
        assert!(section.volumes.is_some_and(|volumes| volumes.contains_key("/data")));
        assert!(!is_foreign("") && !is_foreign(architecture()) && is_foreign("sparc"));
    }
}
