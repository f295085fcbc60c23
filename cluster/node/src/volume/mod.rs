//! A pod's files: volumes from the specification, and `/etc/{hosts,hostname,resolv.conf}`.
//!
//! Blocking file work; callers put it on a blocking thread.

mod etc;
mod files;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{Container, KeyToPath, Pod, Volume, VolumeProjection};

pub(crate) use etc::{NameServices, host_name, write_etc};
pub(crate) use files::{File, write_files};

use crate::dirs::PodDirs;
use crate::pod::env::{self, Sources};
use crate::pod::spec;

/// Names of ConfigMaps and Secrets that a pod refers to anywhere.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) config_maps: BTreeSet<String>,
    pub(crate) secrets: BTreeSet<String>,
}

/// What has to be fetched for the pod's volumes.
pub(crate) fn volume_references(pod: &Pod) -> References {
    let mut found = References::default();
    for volume in volumes(pod) {
        if let Some(source) = &volume.config_map {
            found.config_maps.insert(source.name.clone());
        }
        if let Some(name) = volume.secret.as_ref().and_then(|source| source.secret_name.clone()) {
            found.secrets.insert(name);
        }
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            found
                .config_maps
                .extend(source.config_map.iter().map(|source| source.name.clone()));
            found
                .secrets
                .extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }
    found
}

/// What has to be fetched for a container's environment.
pub(crate) fn env_references(container: &Container) -> References {
    let mut found = References::default();
    for from in container.env_from.iter().flatten() {
        found
            .config_maps
            .extend(from.config_map_ref.iter().map(|r| r.name.clone()));
        found.secrets.extend(from.secret_ref.iter().map(|r| r.name.clone()));
    }
    for from in container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref())
    {
        found
            .config_maps
            .extend(from.config_map_key_ref.iter().map(|r| r.name.clone()));
        found.secrets.extend(from.secret_key_ref.iter().map(|r| r.name.clone()));
    }
    found
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten())
}

/// Makes all volumes; ones that exist keep their contents (emptyDir) or get the newest (ConfigMap, Secret, downward API).
/// `tokens`: the contents for `serviceAccountToken` sources by their path. Errors name the volume.
pub(crate) fn prepare(
    pod: &Pod,
    dirs: &PodDirs,
    sources: &Sources,
    tokens: &dyn Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let group = pod
        .spec
        .as_ref()
        .and_then(|s| s.security_context.as_ref())
        .and_then(|c| c.fs_group);
    for volume in volumes(pod) {
        let path = dirs.volume(&volume.name);
        make(pod, volume, &path, sources, tokens)
            .map_err(|error| format!("MountVolume.SetUp failed for volume \"{}\" : {error}", volume.name))?;
        if let Some(group) = group.and_then(|gid| u32::try_from(gid).ok())
            && volume.host_path.is_none()
        {
            files::give_to_group(&path, group);
        }
    }
    sub_paths(pod, dirs)
}

fn make(
    pod: &Pod,
    volume: &Volume,
    path: &Path,
    sources: &Sources,
    tokens: &dyn Fn(&str) -> Option<String>,
) -> Result<(), String> {
    let io = |error: io::Error| format!("{}: {error}", path.display());
    if volume.empty_dir.is_some() {
        fs::create_dir_all(path).map_err(io)?;
        // As the kubelet: everybody in the pod may write.
        return fs::set_permissions(path, fs::Permissions::from_mode(0o777)).map_err(io);
    }
    if let Some(source) = &volume.host_path {
        return host_path(&source.path, source.type_.as_deref().unwrap_or_default());
    }
    let files = contents(pod, volume, sources, tokens)?;
    write_files(path, &files).map_err(io)
}

fn host_path(path: &str, kind: &str) -> Result<(), String> {
    let path = Path::new(path);
    let shown = path.display();
    match kind {
        "DirectoryOrCreate" => fs::create_dir_all(path).map_err(|error| format!("{shown}: {error}")),
        "FileOrCreate" => fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map(drop)
            .map_err(|error| format!("{shown}: {error}")),
        "Directory" if !path.is_dir() => Err(format!("hostPath type check failed: {shown} is not a directory")),
        "File" if !path.is_file() => Err(format!("hostPath type check failed: {shown} is not a file")),
        _ if !path.exists() => Err(format!("hostPath {shown} does not exist")),
        _ => Ok(()),
    }
}

fn contents(
    pod: &Pod,
    volume: &Volume,
    sources: &Sources,
    tokens: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<File>, String> {
    if let Some(source) = &volume.config_map {
        let mode = mode(source.default_mode);
        return from_config_map(sources, &source.name, source.optional, source.items.as_deref(), mode);
    }
    if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        return from_secret(
            sources,
            name,
            source.optional,
            source.items.as_deref(),
            mode(source.default_mode),
        );
    }
    if let Some(source) = &volume.downward_api {
        return downward(pod, source.items.iter().flatten(), sources, mode(source.default_mode));
    }
    if let Some(source) = &volume.projected {
        let mut files = vec![];
        for part in source.sources.iter().flatten() {
            files.extend(projected(pod, part, sources, tokens, mode(source.default_mode))?);
        }
        return Ok(files);
    }
    Err("this kind of volume is not supported by this node; use emptyDir, configMap, secret, projected, downwardAPI or hostPath".to_owned())
}

fn projected(
    pod: &Pod,
    part: &VolumeProjection,
    sources: &Sources,
    tokens: &dyn Fn(&str) -> Option<String>,
    mode: u32,
) -> Result<Vec<File>, String> {
    if let Some(source) = &part.config_map {
        return from_config_map(sources, &source.name, source.optional, source.items.as_deref(), mode);
    }
    if let Some(source) = &part.secret {
        return from_secret(sources, &source.name, source.optional, source.items.as_deref(), mode);
    }
    if let Some(source) = &part.downward_api {
        return downward(pod, source.items.iter().flatten(), sources, mode);
    }
    if let Some(source) = &part.service_account_token {
        let token = tokens(&source.path).ok_or("no token could be had for its service account")?;
        return Ok(vec![File {
            path: source.path.clone(),
            bytes: token.into_bytes(),
            mode: 0o600,
        }]);
    }
    Err("a projected source of this kind is not supported by this node".to_owned())
}

fn mode(default: Option<i32>) -> u32 {
    default.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(0o644)
}

fn from_config_map(
    sources: &Sources,
    name: &str,
    optional: Option<bool>,
    items: Option<&[KeyToPath]>,
    mode: u32,
) -> Result<Vec<File>, String> {
    let Some(map) = env::config_map(sources, name, optional)? else {
        return Ok(vec![]);
    };
    let text = map
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.clone().into_bytes()));
    let binary = map
        .binary_data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()));
    select(text.chain(binary).collect(), items, mode, optional)
}

fn from_secret(
    sources: &Sources,
    name: &str,
    optional: Option<bool>,
    items: Option<&[KeyToPath]>,
    mode: u32,
) -> Result<Vec<File>, String> {
    let Some(secret) = env::secret(sources, name, optional)? else {
        return Ok(vec![]);
    };
    let all = secret
        .data
        .iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.0.clone()))
        .collect();
    select(all, items, mode, optional)
}

fn select(
    all: Vec<(String, Vec<u8>)>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: Option<bool>,
) -> Result<Vec<File>, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        return Ok(all
            .into_iter()
            .map(|(path, bytes)| File { path, bytes, mode })
            .collect());
    };
    let mut files = vec![];
    for item in items {
        match all.iter().find(|(key, _)| *key == item.key) {
            Some((_, bytes)) => {
                let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
                files.push(File {
                    path: item.path.clone(),
                    bytes: bytes.clone(),
                    mode,
                });
            }
            None if optional == Some(true) => {}
            None => return Err(format!("references non-existent config key: {}", item.key)),
        }
    }
    Ok(files)
}

fn downward<'a>(
    pod: &Pod,
    items: impl Iterator<Item = &'a k8s_openapi::api::core::v1::DownwardAPIVolumeFile>,
    sources: &Sources,
    mode: u32,
) -> Result<Vec<File>, String> {
    let mut files = vec![];
    for item in items {
        let text = if let Some(reference) = &item.field_ref {
            env::field(pod, reference, sources)?
        } else if let Some(reference) = &item.resource_field_ref {
            env::resource(pod, &Container::default(), reference, sources)?
        } else {
            String::new()
        };
        let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
        files.push(File {
            path: item.path.clone(),
            bytes: text.into_bytes(),
            mode,
        });
    }
    Ok(files)
}

/// Directories for subPaths of emptyDirs that do not exist yet, as the kubelet makes them.
fn sub_paths(pod: &Pod, dirs: &PodDirs) -> Result<(), String> {
    for container in spec::all_containers(pod) {
        for mount in container.volume_mounts.iter().flatten() {
            let empty_dir = volumes(pod).any(|volume| volume.name == mount.name && volume.empty_dir.is_some());
            let Some(sub) = mount
                .sub_path
                .as_ref()
                .filter(|sub| empty_dir && !sub.contains("..") && !sub.starts_with('/'))
            else {
                continue;
            };
            let path = dirs.volume(&mount.name).join(sub);
            if !path.exists() {
                fs::create_dir_all(&path).map_err(|error| format!("subPath {}: {error}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Takes a pod's files away. Not an error if there are none.
pub(crate) fn remove(dirs: &PodDirs, logs_too: bool) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    if logs_too {
        gone(fs::remove_dir_all(&dirs.logs))?;
    }
    gone(fs::remove_dir_all(&dirs.root))
}
