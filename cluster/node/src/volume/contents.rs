//! What stands in the files of configMap, secret, downwardAPI and projected volumes. Pure.

use k8s_openapi::api::core::v1::{Container, KeyToPath, Pod, Volume, VolumeProjection};

use super::declared::Inputs;
use super::files::File;
use super::ownership::Ownership;
use crate::pod::container::env::{self, Sources};
use crate::pod::spec;

/// The files of one volume, or what is missing for them.
pub(super) fn contents(pod: &Pod, volume: &Volume, inputs: &Inputs) -> Result<Vec<File>, String> {
    let sources = &inputs.sources;
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
            files.extend(projected(pod, &volume.name, part, inputs, mode(source.default_mode))?);
        }
        return Ok(files);
    }
    Err("this kind of volume is not supported by this node; use emptyDir, configMap, secret, projected, downwardAPI, persistentVolumeClaim or hostPath".to_owned())
}

fn projected(
    pod: &Pod,
    volume: &str,
    part: &VolumeProjection,
    inputs: &Inputs,
    mode: u32,
) -> Result<Vec<File>, String> {
    let sources = &inputs.sources;
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
        let key = (volume.to_owned(), source.path.clone());
        let token = inputs
            .tokens
            .get(&key)
            .ok_or("no token could be had for its service account")?;
        // With a user or a group that reads it nobody else needs to (the kubelet's rule).
        let owner = only_user(pod);
        let closed = owner.is_some() || Ownership::of(pod).is_some();
        return Ok(vec![File {
            path: source.path.clone(),
            bytes: token.clone().into_bytes(),
            mode: if closed { 0o600 } else { mode },
            owner,
        }]);
    }
    Err("a projected source of this kind is not supported by this node".to_owned())
}

/// The user that all containers run as, where the specification says so (the kubelet's `FsUserFrom`).
fn only_user(pod: &Pod) -> Option<u32> {
    let mut users = spec::all_containers(pod).map(|container| spec::requested_user(pod, container));
    let first = users.next()??;
    let all = users.all(|user| user == Some(first));
    u32::try_from(first).ok().filter(|_| all)
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
            .map(|(path, bytes)| File {
                path,
                bytes,
                mode,
                owner: None,
            })
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
                    owner: None,
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
            owner: None,
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_token_is_the_only_users_or_the_groups_or_everybodys() {
        let token = |pod_context: Value, contexts: [Value; 2]| {
            let containers = contexts.map(|context| json!({"name": "c", "securityContext": context}));
            let spec = json!({"securityContext": pod_context, "containers": containers});
            let pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
            let part = serde_json::from_value(json!({"serviceAccountToken": {"path": "token"}})).unwrap();
            let inputs = Inputs {
                tokens: [(("v".to_owned(), "token".to_owned()), "secret".to_owned())].into(),
                ..Inputs::default()
            };
            let files = projected(&pod, "v", &part, &inputs, 0o644).unwrap();
            (files[0].mode, files[0].owner)
        };
        let none = || json!({});
        let as_user = |user: u32| json!({"runAsUser": user});
        assert_eq!(token(none(), [none(), none()]), (0o644, None));
        assert_eq!(token(json!({"fsGroup": 5}), [none(), none()]), (0o600, None));
        assert_eq!(token(as_user(7), [none(), none()]), (0o600, Some(7)));
        assert_eq!(token(as_user(7), [none(), as_user(8)]), (0o644, None));
        assert_eq!(token(none(), [as_user(8), as_user(8)]), (0o600, Some(8)));
        assert_eq!(token(none(), [as_user(8), none()]), (0o644, None));
    }
}
