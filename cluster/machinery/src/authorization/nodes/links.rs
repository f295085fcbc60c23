//! Which nodes have to do with what: by the pods that are bound to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use crate::json::{list, text};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// What a pod may refer to by name, in its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A ServiceAccount.
    Account,
    /// A PersistentVolumeClaim.
    Claim,
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// A claim: namespace and name.
pub type Claim = (String, String);

type Link = (Source, Arc<str>, Arc<str>);

/// A pod's node, and what the pod refers to.
#[derive(Debug)]
struct Bound {
    node: Arc<str>,
    links: Vec<Link>,
}

/// What each node's pods refer to. As large as there are bound pods.
#[derive(Debug, Default)]
pub struct PodLinks {
    /// By namespace and name.
    pods: BTreeMap<(Arc<str>, Arc<str>), Bound>,
    /// How many pods of a node refer to something.
    nodes: BTreeMap<Link, BTreeMap<Arc<str>, u32>>,
}

impl PodLinks {
    /// Takes in a pod, new or changed.
    pub fn put(&mut self, pod: &Value) {
        self.remove(pod);
        let node = text(pod.pointer("/spec/nodeName"));
        if node.is_empty() {
            return;
        }
        let (namespace, name) = names(pod);
        let namespace: Arc<str> = namespace.into();
        let links: Vec<Link> = references(pod)
            .into_iter()
            .map(|(source, name)| {
                let link = (source, Arc::clone(&namespace), Arc::from(name));
                // One text for all pods that refer to the same.
                self.nodes.get_key_value(&link).map_or(link, |(known, _)| known.clone())
            })
            .collect();
        let node: Arc<str> = node.into();
        for link in &links {
            *self
                .nodes
                .entry(link.clone())
                .or_default()
                .entry(Arc::clone(&node))
                .or_default() += 1;
        }
        self.pods.insert((namespace, name.into()), Bound { node, links });
    }

    /// Forgets a pod.
    pub fn remove(&mut self, pod: &Value) {
        let (namespace, name) = names(pod);
        let Some(Bound { node, links }) = self.pods.remove(&(namespace.into(), name.into())) else {
            return;
        };
        for link in links {
            let Some(nodes) = self.nodes.get_mut(&link) else {
                continue;
            };
            if let Some(count) = nodes.get_mut(&node) {
                *count = count.saturating_sub(1);
            }
            nodes.retain(|_, count| *count > 0);
            if nodes.is_empty() {
                self.nodes.remove(&link);
            }
        }
    }

    /// Whether a pod is bound to a node.
    pub fn runs(&self, node: &str, namespace: &str, name: &str) -> bool {
        let bound = self.pods.get(&(Arc::from(namespace), Arc::from(name)));
        bound.is_some_and(|bound| *bound.node == *node)
    }

    /// Whether a pod that is bound to a node refers to something.
    pub fn uses(&self, node: &str, source: Source, namespace: &str, name: &str) -> bool {
        let nodes = self.nodes.get(&(source, namespace.into(), name.into()));
        nodes.is_some_and(|nodes| nodes.contains_key(node))
    }
}

fn names(object: &Value) -> (&str, &str) {
    let field = |name: &str| text(object.get("metadata").and_then(|metadata| metadata.get(name)));
    (field("namespace"), field("name"))
}

/// What a pod refers to: nothing, if it mirrors one that its node has read from a file. Nobody may give a node rights by such a pod.
pub(super) fn references(pod: &Value) -> BTreeSet<(Source, String)> {
    let mut all = BTreeSet::new();
    let annotations = pod.pointer("/metadata/annotations");
    if annotations.is_some_and(|annotations| annotations.get(MIRROR).is_some()) {
        return all;
    }
    let spec = pod.get("spec");
    let mut add = |source, name: &str| {
        if !name.is_empty() {
            all.insert((source, name.to_owned()));
        }
    };
    add(
        Source::Account,
        text(spec.and_then(|spec| spec.get("serviceAccountName"))),
    );
    for secret in list(spec, "imagePullSecrets") {
        add(Source::Secret, text(secret.get("name")));
    }
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        for container in list(spec, kind) {
            of_environment(container, &mut add);
        }
    }
    for volume in list(spec, "volumes") {
        of_volume(volume, names(pod).1, &mut add);
    }
    all
}

fn of_environment(container: &Value, add: &mut impl FnMut(Source, &str)) {
    let named = |owner: &Value, path: &str| text(owner.pointer(path)).to_owned();
    for variable in list(Some(container), "env") {
        add(Source::Secret, &named(variable, "/valueFrom/secretKeyRef/name"));
        add(Source::ConfigMap, &named(variable, "/valueFrom/configMapKeyRef/name"));
    }
    for from in list(Some(container), "envFrom") {
        add(Source::Secret, &named(from, "/secretRef/name"));
        add(Source::ConfigMap, &named(from, "/configMapRef/name"));
    }
}

fn of_volume(volume: &Value, pod: &str, add: &mut impl FnMut(Source, &str)) {
    let at = |path: &str| text(volume.pointer(path));
    for driver in ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"] {
        add(Source::Secret, at(&format!("/{driver}/secretRef/name")));
    }
    add(Source::Secret, at("/csi/nodePublishSecretRef/name"));
    add(Source::Secret, at("/azureFile/secretName"));
    add(Source::Secret, at("/secret/secretName"));
    add(Source::ConfigMap, at("/configMap/name"));
    for part in list(volume.get("projected"), "sources") {
        add(Source::Secret, text(part.pointer("/secret/name")));
        add(Source::ConfigMap, text(part.pointer("/configMap/name")));
    }
    add(Source::Claim, at("/persistentVolumeClaim/claimName"));
    if volume.get("ephemeral").is_some_and(Value::is_object) {
        add(Source::Claim, &format!("{pod}-{}", at("/name")));
    }
}

/// Which claims have which volumes, and which secrets belong to them.
#[derive(Debug, Default)]
pub struct VolumeLinks {
    /// By the volume's name.
    claims: BTreeMap<String, Claim>,
    /// By namespace and name.
    secrets: BTreeMap<Claim, BTreeSet<String>>,
}

impl VolumeLinks {
    /// Takes in a PersistentVolume, new or changed.
    pub fn put(&mut self, volume: &Value) {
        self.remove(volume);
        let claim = volume.pointer("/spec/claimRef");
        let Some(claim) = claim.filter(|claim| claim.is_object()) else {
            return;
        };
        let field = |name: &str| text(claim.get(name)).to_owned();
        let claim = (field("namespace"), field("name"));
        let name = names(volume).1.to_owned();
        for secret in secrets_of(volume, &claim.0) {
            self.secrets.entry(secret).or_default().insert(name.clone());
        }
        self.claims.insert(name, claim);
    }

    /// Forgets one.
    pub fn remove(&mut self, volume: &Value) {
        let name = names(volume).1;
        self.claims.remove(name);
        self.secrets.retain(|_, volumes| {
            volumes.remove(name);
            !volumes.is_empty()
        });
    }

    /// The claim that has a volume.
    pub fn claim(&self, volume: &str) -> Option<&Claim> {
        self.claims.get(volume)
    }

    /// The claims whose volumes need a secret.
    pub fn claims_with(&self, namespace: &str, secret: &str) -> impl Iterator<Item = &Claim> {
        let volumes = self.secrets.get(&(namespace.to_owned(), secret.to_owned()));
        volumes
            .into_iter()
            .flatten()
            .filter_map(|volume| self.claims.get(volume))
    }
}

/// The secrets of a volume that a node may see: those of the control plane's drivers it may not.
fn secrets_of(volume: &Value, namespace: &str) -> Vec<Claim> {
    let spec = volume.get("spec").unwrap_or(&Value::Null);
    let at = |path: &str| text(spec.pointer(path)).to_owned();
    let mut all = Vec::new();
    for path in [
        "/cephfs/secretRef",
        "/cinder/secretRef",
        "/flexVolume/secretRef",
        "/rbd/secretRef",
        "/scaleIO/secretRef",
    ]
    .into_iter()
    .chain(["/iscsi/secretRef", "/storageos/secretRef"])
    .chain([
        "/csi/nodePublishSecretRef",
        "/csi/nodeStageSecretRef",
        "/csi/nodeExpandSecretRef",
    ]) {
        let own = at(&format!("{path}/namespace"));
        let own = if own.is_empty() { namespace.to_owned() } else { own };
        all.push((own, at(&format!("{path}/name"))));
    }
    let own = at("/azureFile/secretNamespace");
    let own = if own.is_empty() { namespace.to_owned() } else { own };
    all.push((own, at("/azureFile/secretName")));
    all.retain(|(_, name)| !name.is_empty());
    all
}
