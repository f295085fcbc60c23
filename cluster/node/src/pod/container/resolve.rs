//! From a container in the spec to what the runtime is told: program, user, mounts, capabilities. Pure.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use afloat_runtime::{Image, Mount};
use afloat_words::image::ImageName;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::env::{self, Variables, expand};
use super::termination;
use crate::dirs::PodDirs;
use crate::pod::spec;

const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The complete environment: image's, host name, then the pod's.
pub(crate) fn environment(image: &Image, hostname: &str, variables: &[(String, String)]) -> Vec<String> {
    let mut all = Variables::default();
    for entry in std::iter::once(DEFAULT_PATH).chain(image.config.env.iter().map(String::as_str)) {
        if let Some((name, value)) = entry.split_once('=') {
            all.put(name.to_owned(), value.to_owned());
        }
    }
    all.put("HOSTNAME".to_owned(), hostname.to_owned());
    for (name, value) in variables {
        all.put(name.clone(), value.clone());
    }
    let all = all.in_order().into_iter();
    all.map(|(name, value)| format!("{name}={value}")).collect()
}

/// Program and arguments: `command` replaces ENTRYPOINT and drops CMD, `args` replaces CMD.
pub(crate) fn arguments(
    container: &Container,
    image: &Image,
    variables: &[(String, String)],
) -> Result<Vec<String>, String> {
    let known: BTreeMap<&str, &str> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let lookup = |name: &str| known.get(name).map(|value| (*value).to_owned());
    let expanded = |list: &[String]| -> Result<Vec<String>, String> {
        let mut all = Vec::with_capacity(list.len());
        let mut bytes = 0;
        for text in list {
            let text = expand(text, &lookup)?;
            bytes += text.len();
            env::few(bytes)?;
            all.push(text);
        }
        Ok(all)
    };
    let command = container.command.as_deref().filter(|list| !list.is_empty());
    let args = container.args.as_deref().filter(|list| !list.is_empty());
    let mut all = match command {
        Some(command) => expanded(command)?,
        None => image.config.entrypoint.clone(),
    };
    match (command, args) {
        (_, Some(args)) => all.extend(expanded(args)?),
        (None, None) => all.extend(image.config.cmd.iter().cloned()),
        (Some(_), None) => {}
    }
    if all.is_empty() {
        Err("no command specified".to_owned())
    } else {
        Ok(all)
    }
}

/// The user as the runtime is to look it up, and a group that replaces the one found.
pub(crate) fn user(pod: &Pod, container: &Container, image: &Image) -> (String, Option<i64>) {
    let own = container.security_context.as_ref();
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let user = spec::requested_user(pod, container);
    let group = own.and_then(|s| s.run_as_group).or(of_pod.and_then(|s| s.run_as_group));
    (
        user.map_or_else(|| image.config.user.clone(), |uid| uid.to_string()),
        group,
    )
}

/// `runAsNonRoot` holds.
pub(crate) fn check_non_root(pod: &Pod, container: &Container, user: &str, uid: u32) -> Result<(), String> {
    let own = container.security_context.as_ref().and_then(|s| s.run_as_non_root);
    let of_pod = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref())
        .and_then(|s| s.run_as_non_root);
    if own.or(of_pod) != Some(true) {
        return Ok(());
    }
    let place = format!(
        "(pod: \"{}\", container: {})",
        spec::pod_in_message(pod),
        container.name
    );
    let name = user.split(':').next().unwrap_or_default();
    if uid == 0 {
        let whose = if spec::requested_user(pod, container).is_some() {
            "container's runAsUser breaks non-root policy"
        } else {
            "container has runAsNonRoot and image will run as root"
        };
        return Err(format!("{whose} {place}"));
    }
    if name.parse::<u32>().is_err() {
        // The kubelet knows no names of users, so on no other cluster would it run.
        return Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {place}"
        ));
    }
    Ok(())
}

/// Groups beside the primary one: the image's (unless `supplementalGroupsPolicy` is Strict), `supplementalGroups`, `fsGroup`.
pub(crate) fn groups(pod: &Pod, mut found: Vec<u32>) -> Vec<u32> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    if context.and_then(|c| c.supplemental_groups_policy.as_deref()) == Some("Strict") {
        found.clear();
    }
    let more = context
        .into_iter()
        .flat_map(|c| c.supplemental_groups.iter().flatten().chain(&c.fs_group));
    found.extend(more.filter_map(|gid| u32::try_from(*gid).ok()));
    found.sort_unstable();
    found.dedup();
    found
}

/// A mount, as far as it can be told without looking at the disk.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Its source is the volume as a whole.
    pub(crate) mount: Mount,
    /// What of the volume is mounted; empty: all of it.
    pub(crate) sub_path: String,
    /// A `subPath` that does not exist may be made.
    pub(crate) may_make: bool,
    pub(crate) origin: Origin,
}

/// Whose a mount's source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A volume's or one of the pod's generated files: it is there.
    Pod,
    /// The node's: a folder is made there if nothing is.
    Node,
    /// The container's own, in which it tells why it ended: it is made.
    TerminationLog,
}

/// Volumes and generated files, outer ones before what is mounted inside them.
pub(crate) fn mounts(
    pod: &Pod,
    container: &Container,
    attempt: u32,
    dirs: &PodDirs,
    variables: &[(String, String)],
) -> Result<Vec<Planned>, String> {
    let mut mounts = vec![];
    for mount in container.volume_mounts.iter().flatten() {
        let root = volume_root(pod, &mount.name, dirs)?;
        let sub = match (&mount.sub_path_expr, &mount.sub_path) {
            (Some(text), _) => expand_all(text, variables)?,
            (None, Some(text)) => text.clone(),
            (None, None) => String::new(),
        };
        let inside = Path::new(&sub)
            .components()
            .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !inside {
            return Err(format!(
                "subPath {sub:?} of volume {:?} must be relative and must not contain '..'",
                mount.name
            ));
        }
        let from_api = always_read_only(pod, &mount.name);
        mounts.push(Planned {
            mount: Mount {
                source: root,
                found: None,
                target: Path::new("/").join(&mount.mount_path),
                read_only: mount.read_only == Some(true) || from_api || claimed_read_only(pod, &mount.name),
            },
            sub_path: sub,
            may_make: !from_api,
            origin: match volume(pod, &mount.name) {
                Some(volume) if volume.host_path.is_some() => Origin::Node,
                _ => Origin::Pod,
            },
        });
    }
    let files = ["hosts", "hostname", "resolv.conf"].map(|file| {
        let target = Path::new("/etc").join(file);
        (dirs.etc().join(file), target, Origin::Pod)
    });
    let log = termination::path(container).map(|target| {
        (
            dirs.termination_log(&container.name, attempt),
            target,
            Origin::TerminationLog,
        )
    });
    for (source, target, origin) in files.into_iter().chain(log) {
        if !mounts.iter().any(|planned| planned.mount.target == target) {
            mounts.push(Planned {
                mount: Mount {
                    source,
                    found: None,
                    target,
                    read_only: false,
                },
                sub_path: String::new(),
                may_make: false,
                origin,
            });
        }
    }
    mounts.sort_by_key(|planned| planned.mount.target.components().count());
    Ok(mounts)
}

/// `subPathExpr`: every variable must be known, or pods would share a directory that was meant to be their own.
fn expand_all(text: &str, variables: &[(String, String)]) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let expanded = expand(text, &|name| {
        let found = variables
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, v)| v.clone());
        if found.is_none() {
            missing.replace(Some(name.to_owned()));
        }
        found
    })?;
    match missing.into_inner() {
        Some(name) => Err(format!("subPathExpr {text:?}: missing value for {name:?}")),
        None => Ok(expanded),
    }
}

fn volume<'a>(pod: &'a Pod, name: &str) -> Option<&'a k8s_openapi::api::core::v1::Volume> {
    pod.spec
        .as_ref()?
        .volumes
        .iter()
        .flatten()
        .find(|volume| volume.name == name)
}

fn volume_root(pod: &Pod, name: &str, dirs: &PodDirs) -> Result<PathBuf, String> {
    let volume = volume(pod, name).ok_or_else(|| format!("volumeMounts: volume {name:?} is not in spec.volumes"))?;
    Ok(match &volume.host_path {
        Some(source) => PathBuf::from(&source.path),
        None => dirs.volume(name),
    })
}

/// Contents that come from the API are not the container's to change.
fn always_read_only(pod: &Pod, name: &str) -> bool {
    volume(pod, name).is_some_and(crate::volume::follows_the_api)
}

fn claimed_read_only(pod: &Pod, name: &str) -> bool {
    let claim = volume(pod, name).and_then(|v| v.persistent_volume_claim.as_ref());
    claim.is_some_and(|claim| claim.read_only == Some(true))
}

/// The signal that asks it to stop: the spec's, the image's, SIGTERM.
pub(crate) fn stop_signal(container: &Container, image: &Image) -> String {
    let own = spec::lifecycle(container).and_then(|lifecycle| lifecycle.stop_signal.clone());
    own.or_else(|| Some(image.config.stop_signal.clone()).filter(|signal| !signal.is_empty()))
        .unwrap_or_else(|| "SIGTERM".to_owned())
}

/// A reference as runtimes write it: registry, path and tag complete (`web` → `docker.io/library/web:latest`).
pub(crate) fn normalised(reference: &str) -> String {
    ImageName::of(reference).meaning().to_string()
}

/// What `status.containerStatuses[].image` says: the spec's reference as the runtime names it. Where several tags point
/// to one image, real runtimes may show another of them; the one that was asked for is the one least surprising.
pub(crate) fn status_image(reference: &str, image: &Image) -> String {
    let wanted = normalised(reference);
    if image.names.contains(&wanted) || reference.contains('@') {
        return wanted;
    }
    image.names.first().cloned().unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_say_what_of_which_volume_and_how() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p", "uid": "u"}, "spec": {
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "c", "readOnly": true}},
                {"name": "conf", "configMap": {"name": "m"}}, {"name": "tmp", "emptyDir": {}}],
            "containers": [{"name": "c", "terminationMessagePath": "/tmp/why", "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp/a", "subPathExpr": "$(POD)/x"}, {"name": "data", "mountPath": "/data"},
                {"name": "conf", "mountPath": "/conf", "subPath": "key"}]}]}}))
        .unwrap();
        let dirs = PodDirs::new(Path::new("/n"), &pod);
        let container = spec::find(&pod, "c").unwrap();
        let variables = [("POD".to_owned(), "p-0".to_owned())];
        let told: Vec<_> = mounts(&pod, container, 2, &dirs, &variables)
            .unwrap()
            .into_iter()
            .map(|p| {
                format!(
                    "{} {} {} {}",
                    p.mount.target.display(),
                    p.sub_path,
                    p.mount.read_only,
                    p.may_make
                )
            })
            .collect();
        assert_eq!(told[..2], ["/data  true true", "/conf key true false"]);
        assert!(told.contains(&"/tmp/a p-0/x false true".to_owned()), "{told:?}");
        assert!(told.contains(&"/tmp/why  false false".to_owned()), "{told:?}");
        let refused = mounts(&pod, container, 2, &dirs, &[]).unwrap_err();
        assert_eq!(refused, "subPathExpr \"$(POD)/x\": missing value for \"POD\"");
    }

    #[test]
    fn command_replaces_the_entrypoint_and_drops_cmd() {
        let config = afloat_runtime::ImageConfig {
            entrypoint: vec!["/e".into()],
            cmd: vec!["c".into()],
            ..Default::default()
        };
        let image = Image {
            id: String::new(),
            names: vec![],
            registry_names: vec![],
            digests: vec![],
            size_bytes: 0,
            config,
        };
        let run = |command: &[&str], args: &[&str]| {
            let list = |l: &[&str]| Some(l.iter().map(|s| (*s).to_owned()).collect());
            let container = Container {
                command: list(command),
                args: list(args),
                ..Container::default()
            };
            arguments(&container, &image, &[("V".into(), "v".into())])
                .unwrap()
                .join(" ")
        };
        assert_eq!(run(&[], &[]), "/e c");
        assert_eq!(run(&[], &["a"]), "/e a");
        assert_eq!(run(&["x"], &[]), "x");
        assert_eq!(run(&["x"], &["$(V)"]), "x v");
    }
}
