//! What image references mean: for the registry that all nodes pull from, and for the store of each node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

/// An image reference in its full form: `nginx` is `docker.io/library/nginx:latest`.
pub fn normalise(reference: &str) -> String {
    let (path, digest) = match reference.split_once('@') {
        Some((path, digest)) => (path, Some(digest)),
        None => (reference, None),
    };
    let (domain, rest) = match path.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
        _ => ("docker.io", path),
    };
    let domain = if domain == "index.docker.io" {
        "docker.io"
    } else {
        domain
    };
    let official = domain == "docker.io" && !rest.contains('/');
    let library = if official { "library/" } else { "" };
    let tagged = rest.rsplit('/').next().is_some_and(|last| last.contains(':'));
    let tag = if tagged || digest.is_some() { "" } else { ":latest" };
    let at = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    format!("{domain}/{library}{rest}{tag}{at}")
}

/// The repository of a full reference: without tag and digest.
fn repository(full: &str) -> &str {
    let path = full.split('@').next().unwrap_or(full);
    match path.rsplit_once(':') {
        // A colon before the last slash belongs to a port.
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => path,
    }
}

/// The registry: every reference can be pulled and is an image of its own, unless something else was said here.
#[derive(Debug, Default)]
pub struct Images {
    state: Mutex<State>,
    pub(crate) provided: Notify,
}

#[derive(Debug, Default)]
struct State {
    aliases: BTreeMap<String, String>,
    missing: BTreeSet<String>,
}

impl Images {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `name` is the very image that `of` is. A node that has pulled `name` before keeps what it has.
    pub fn alias(&self, name: &str, of: &str) {
        let digest = self.digest(of);
        self.lock().aliases.insert(normalise(name), digest);
    }

    /// From now on the reference cannot be pulled. A node that has the image already goes on to use it.
    pub fn missing(&self, reference: &str) {
        self.lock().missing.insert(normalise(reference));
    }

    /// The reference can be pulled again; containers that wait for it start.
    pub fn provide(&self, reference: &str) {
        self.lock().missing.remove(&normalise(reference));
        self.provided.notify_one();
    }

    /// The digest that a reference has, `sha256:` and 64 digits.
    pub fn digest(&self, reference: &str) -> String {
        let full = normalise(reference);
        if let Some((_, digest)) = full.split_once('@') {
            return digest.to_owned();
        }
        if let Some(digest) = self.lock().aliases.get(&full) {
            return digest.clone();
        }
        format!("sha256:{}", hex::encode(Sha256::digest(full.as_bytes())))
    }

    /// The digest, unless the reference cannot be pulled.
    pub(crate) fn pull(&self, full: &str) -> Option<String> {
        if self.lock().missing.contains(full) {
            return None;
        }
        Some(self.digest(full))
    }
}

/// The images of one node, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct NodeImages {
    images: Vec<NodeImage>,
}

#[derive(Debug)]
struct NodeImage {
    digest: String,
    /// Full references as they were pulled, oldest first.
    pulled: Vec<String>,
}

impl NodeImages {
    /// The digest that a reference has here; pulls it if need be. `true`: the list has changed.
    pub(crate) fn ensure(&mut self, reference: &str, registry: &Images) -> Option<(String, bool)> {
        let full = normalise(reference);
        if let Some(image) = self.images.iter().find(|image| image.pulled.contains(&full)) {
            return Some((image.digest.clone(), false));
        }
        let digest = registry.pull(&full)?;
        self.learn(full, &digest);
        Some((digest, true))
    }

    /// Notes that the node has the image under that name.
    pub(crate) fn learn(&mut self, full: String, digest: &str) {
        match self.images.iter_mut().find(|image| image.digest == digest) {
            Some(image) if image.pulled.contains(&full) => {}
            Some(image) => image.pulled.push(full),
            None => self.images.push(NodeImage {
                digest: digest.to_owned(),
                pulled: vec![full],
            }),
        }
    }

    /// The first tag that the node knew an image by.
    pub(crate) fn first_tag(&self, digest: &str) -> Option<&str> {
        let image = self.images.iter().find(|image| image.digest == digest)?;
        image.pulled.iter().map(String::as_str).find(|full| !full.contains('@'))
    }

    /// The image's id as a kubelet on containerd reports it: the first repository and the digest.
    pub(crate) fn id(&self, digest: &str) -> String {
        let first = self.images.iter().find(|image| image.digest == digest);
        match first.and_then(|image| image.pulled.first()) {
            Some(full) => format!("{}@{digest}", repository(full)),
            None => digest.to_owned(),
        }
    }

    /// All names of every image, as `Node.status.images` lists them: `repository@digest` first, then the tags.
    pub(crate) fn names(&self) -> Vec<Vec<String>> {
        let names = |image: &NodeImage| {
            let mut names: Vec<String> = Vec::new();
            for full in &image.pulled {
                let by_digest = format!("{}@{}", repository(full), image.digest);
                if !names.contains(&by_digest) {
                    names.push(by_digest);
                }
            }
            names.extend(image.pulled.iter().filter(|full| !full.contains('@')).cloned());
            names
        };
        self.images.iter().map(names).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_knows_an_image_by_all_its_names_and_reports_the_first() {
        let registry = Images::default();
        registry.alias("app:one", "app:1");
        let mut node = NodeImages::default();
        let (digest, changed) = node.ensure("app:1", &registry).unwrap();
        assert!(changed);
        assert_eq!(
            node.ensure("docker.io/library/app:1", &registry),
            Some((digest.clone(), false))
        );
        assert_eq!(node.ensure("app:one", &registry), Some((digest.clone(), true)));
        assert_eq!(node.ensure(&format!("app@{digest}"), &registry).unwrap().0, digest);
        assert_eq!(node.first_tag(&digest), Some("docker.io/library/app:1"));
        assert_eq!(node.id(&digest), format!("docker.io/library/app@{digest}"));
        assert_eq!(
            node.names(),
            [[
                format!("docker.io/library/app@{digest}"),
                "docker.io/library/app:1".into(),
                "docker.io/library/app:one".into()
            ]]
        );
        assert_ne!(registry.digest("app:2"), digest);
    }

    #[test]
    fn what_is_missing_cannot_be_pulled_until_provided() {
        let registry = Images::default();
        let mut node = NodeImages::default();
        assert!(node.ensure("app:1", &registry).is_some());
        registry.missing("app:1");
        registry.missing("app:2");
        assert!(node.ensure("app:1", &registry).is_some(), "it is there already");
        assert_eq!(node.ensure("app:2", &registry), None);
        registry.provide("app:2");
        assert!(node.ensure("app:2", &registry).is_some());
    }

    #[test]
    fn references_have_a_full_form() {
        for (short, full, path) in [
            ("nginx", "docker.io/library/nginx:latest", "docker.io/library/nginx"),
            (
                "docker.io/nginx:1",
                "docker.io/library/nginx:1",
                "docker.io/library/nginx",
            ),
            ("user/app:1", "docker.io/user/app:1", "docker.io/user/app"),
            ("localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a"),
            ("quay.io/a/b@sha256:1", "quay.io/a/b@sha256:1", "quay.io/a/b"),
            ("quay.io/a/b:2@sha256:1", "quay.io/a/b:2@sha256:1", "quay.io/a/b"),
        ] {
            assert_eq!(normalise(short), full);
            assert_eq!(repository(full), path);
        }
    }
}
