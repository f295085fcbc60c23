//! From a pod's claim to the directory that it mounts. Pure, but for [`Place::make`].

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use afloat_words::owner::is_owned_by;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};

use super::host_path;
use crate::pod::spec;

/// Who makes the cluster's own volumes.
pub(crate) const PROVISIONER: &str = "afloat.dev/local";
/// Annotation of a volume: who has made it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// Where a volume's contents are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// Made by us, when it is needed first.
    Own,
    /// Somebody has to have made it.
    Local,
    /// A path of the node, of a type as `hostPath` volumes have them.
    HostPath(String),
}

impl Place {
    /// Makes the directory, or says that it is missing.
    pub(crate) fn make(&self) -> Result<(), String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.path.display());
        match &self.kind {
            Kind::HostPath(kind) => {
                host_path::check(&self.path, kind)?;
                host_path::make_missing(&self.path)
            }
            _ if self.path.is_dir() => Ok(()),
            Kind::Local => Err(format!("path {:?} does not exist", self.path.display().to_string())),
            Kind::Own => {
                fs::create_dir_all(&self.path).map_err(told)?;
                // Whoever the containers run as: only pods with the claim get to see it.
                fs::set_permissions(&self.path, fs::Permissions::from_mode(0o777)).map_err(told)
            }
        }
    }

    /// Whether `fsGroup` counts for it: paths of the node stay as they are.
    pub(super) fn may_be_given(&self) -> bool {
        !matches!(self.kind, Kind::HostPath(_))
    }
}

/// The pod has it only for reading.
pub(super) fn read_only(volume: &Volume) -> bool {
    let claim = volume.persistent_volume_claim.as_ref();
    claim.is_some_and(|claim| claim.read_only == Some(true))
}

/// The name of the volume that the pod's claim is bound to.
///
/// # Errors
/// Why it cannot be mounted, in the kubelet's words.
pub(crate) fn bound_volume(pod: &Pod, name: &str, claim: Option<&PersistentVolumeClaim>) -> Result<String, String> {
    let claim = claim.ok_or_else(|| format!("persistentvolumeclaim \"{name}\" not found"))?;
    let owned_elsewhere = || {
        let ephemeral = spec::ephemeral_claims(pod).any(|own| own == name);
        ephemeral && !is_owned_by(&claim.metadata, spec::uid(pod))
    };
    if owned_elsewhere() {
        return Err(format!(
            "PVC {}/{name} was not created for pod {} (pod is not owner)",
            spec::namespace(pod),
            spec::full_name(pod)
        ));
    }
    if claim.metadata.deletion_timestamp.is_some() && !spec::has_run(pod) {
        return Err(format!("can't start pod because PVC \"{name}\" is being deleted"));
    }
    if claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref()) == Some("Block") {
        return Err(format!(
            "PVC \"{name}\": volumeMode Block is not supported by this node; use Filesystem"
        ));
    }
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    volume
        .filter(|volume| bound && !volume.is_empty())
        .ok_or_else(|| format!("PVC \"{name}\" is not bound"))
}

/// Where the volume's contents are on this node.
///
/// # Errors
/// Why this node cannot mount it.
pub(crate) fn directory(
    node: &str,
    node_dir: &Path,
    name: &str,
    volume: Option<&PersistentVolume>,
) -> Result<Place, String> {
    let volume = volume.ok_or_else(|| format!("persistentvolume \"{name}\" not found"))?;
    let annotations = volume.metadata.annotations.as_ref();
    let source = volume.spec.as_ref();
    if annotations.and_then(|map| map.get(PROVISIONED_BY)).map(String::as_str) == Some(PROVISIONER) {
        if !names_node(volume, node) {
            return Err(format!("the contents of volume \"{name}\" are on another node"));
        }
        // By its name and not by its path: the data directory may have been moved.
        let path = claims(node_dir).join(name);
        return Ok(Place { path, kind: Kind::Own });
    }
    if let Some(local) = source.and_then(|spec| spec.local.as_ref()) {
        let path = PathBuf::from(&local.path);
        return Ok(Place {
            path,
            kind: Kind::Local,
        });
    }
    if let Some(host) = source.and_then(|spec| spec.host_path.as_ref()) {
        let kind = Kind::HostPath(host.type_.clone().unwrap_or_default());
        let path = PathBuf::from(&host.path);
        return Ok(Place { path, kind });
    }
    Err(format!(
        "volume \"{name}\" is of a kind that this node does not support; use local or hostPath"
    ))
}

/// Whether the volume's affinity names this node's host name.
fn names_node(volume: &PersistentVolume, node: &str) -> bool {
    let affinity = volume.spec.as_ref().and_then(|spec| spec.node_affinity.as_ref());
    let terms = affinity
        .and_then(|affinity| affinity.required.as_ref())
        .map(|required| required.node_selector_terms.as_slice())
        .unwrap_or_default();
    terms
        .iter()
        .flat_map(|term| term.match_expressions.iter().flatten())
        .any(|expression| {
            let values = expression.values.as_deref().unwrap_or_default();
            expression.key == "kubernetes.io/hostname" && values.iter().any(|value| value == node)
        })
}

/// The directory of all claims' contents on a node.
pub fn claims(node_dir: &Path) -> PathBuf {
    node_dir.join("claims")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(value: Value) -> PersistentVolumeClaim {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_a_bound_claim_is_mounted() {
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}})).unwrap();
        let told = |value: Option<Value>| bound_volume(&pod, "c", value.map(claim).as_ref());
        assert_eq!(told(None).unwrap_err(), "persistentvolumeclaim \"c\" not found");
        let mut object =
            json!({"metadata": {"name": "c"}, "spec": {"volumeName": "v"}, "status": {"phase": "Pending"}});
        assert_eq!(told(Some(object.clone())).unwrap_err(), "PVC \"c\" is not bound");
        object["status"]["phase"] = "Bound".into();
        assert_eq!(told(Some(object.clone())).unwrap(), "v");
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert!(told(Some(object)).unwrap_err().contains("is being deleted"));
    }

    #[test]
    fn our_own_volumes_are_found_by_name_others_by_path() {
        let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}]}]}});
        let own: PersistentVolume = serde_json::from_value(json!({
            "metadata": {"name": "pvc-1", "annotations": {PROVISIONED_BY: PROVISIONER}},
            "spec": {"local": {"path": "/old/place"}, "nodeAffinity": affinity}}))
        .unwrap();
        let at = |node: &str, volume: &PersistentVolume| directory(node, Path::new("/d"), "pvc-1", Some(volume));
        assert_eq!(at("node-1", &own).unwrap().path, Path::new("/d/claims/pvc-1"));
        assert!(at("node-2", &own).is_err());
        let path: PersistentVolume =
            serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"hostPath": {"path": "/srv"}}})).unwrap();
        assert_eq!(
            at("node-2", &path).unwrap(),
            Place {
                path: "/srv".into(),
                kind: Kind::HostPath(String::new())
            }
        );
        let nfs: PersistentVolume =
            serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": {"nfs": {"server": "s", "path": "/"}}}))
                .unwrap();
        assert!(at("node-1", &nfs).is_err());
    }
}
