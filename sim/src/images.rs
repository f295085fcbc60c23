//! What image references mean: for the registry that all nodes pull from, and for the store of each node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use afloat_words::image::{self, ImageName};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

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
        self.lock().aliases.insert(image::full(name), digest);
    }

    /// From now on the reference cannot be pulled. A node that has the image already goes on to use it.
    pub fn missing(&self, reference: &str) {
        self.lock().missing.insert(image::full(reference));
    }

    /// The reference can be pulled again; containers that wait for it start.
    pub fn provide(&self, reference: &str) {
        self.lock().missing.remove(&image::full(reference));
        self.provided.notify_one();
    }

    /// The digest that a reference has, `sha256:` and 64 digits.
    pub fn digest(&self, reference: &str) -> String {
        let full = image::full(reference);
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
        let full = image::full(reference);
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
            Some(full) => format!("{}@{digest}", ImageName::of(full).without_version()),
            None => digest.to_owned(),
        }
    }

    /// All names of every image, as `Node.status.images` lists them: `repository@digest` first, then the tags.
    pub(crate) fn names(&self) -> Vec<Vec<String>> {
        let names = |image: &NodeImage| {
            let mut names: Vec<String> = Vec::new();
            for full in &image.pulled {
                let by_digest = format!("{}@{}", ImageName::of(full).without_version(), image.digest);
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
}
