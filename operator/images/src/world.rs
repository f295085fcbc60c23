//! What the manager sees.

use std::collections::BTreeMap;
use std::sync::Arc;

use afloat_api::{ImageListPullJob, ImagePullJob, Matcher, NodeImage};
use afloat_words::key::Key;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// Everything that a plan is made of.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The time.
    pub now: Timestamp,
    /// All ImagePullJobs.
    pub jobs: &'a [Arc<ImagePullJob>],
    /// All ImageListPullJobs.
    pub lists: &'a [Arc<ImageListPullJob>],
    /// All NodeImages.
    pub node_images: &'a [Arc<NodeImage>],
    /// All nodes.
    pub nodes: &'a [Machine<'a>],
    /// All pods; None: not known yet, and jobs that choose nodes by pods wait.
    pub pods: Option<&'a [Arc<Resident>]>,
    /// Secrets in the namespace for agents; None: nothing is known of them, or the namespace is missing.
    pub copies: Option<&'a [Arc<Secret>]>,
    /// Secrets that jobs name, as far as they have been looked for.
    pub sources: &'a BTreeMap<Key, Source>,
    /// Any number; names of copies are made from it.
    pub seed: u64,
}

/// A node.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    /// Name, labels, and whether it is being deleted.
    pub metadata: &'a ObjectMeta,
    /// Whether its condition Ready is True.
    pub ready: bool,
}

/// A pod, as far as it tells where an image will be needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its node; empty if it has none yet.
    pub node: String,
    /// Whether it is neither over nor being deleted.
    pub active: bool,
}

/// A secret that a job names.
#[derive(Clone, Debug)]
pub enum Source {
    /// As it is.
    There(Box<Secret>),
    /// There is none.
    Missing,
}

/// Labels that virtual nodes have (virtual-kubelet): they have no images.
const VIRTUAL: (&str, &str) = ("type", "virtual-kubelet");

impl<'a> Machine<'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether it has images at all, and stays.
    pub(crate) fn stays(&self) -> bool {
        let labels = self.metadata.labels.as_ref();
        let is_virtual = labels.and_then(|labels| labels.get(VIRTUAL.0)).map(String::as_str) == Some(VIRTUAL.1);
        self.metadata.deletion_timestamp.is_none() && !is_virtual
    }
}

/// A selector in which nothing said means everything, as for jobs.
#[derive(Debug)]
pub(crate) enum Choice {
    All,
    These(Matcher),
}

impl Choice {
    pub(crate) fn of(selector: &LabelSelector) -> Self {
        let none = |absent: Option<bool>| absent.unwrap_or(true);
        let labels = none(selector.match_labels.as_ref().map(BTreeMap::is_empty));
        let rules = none(selector.match_expressions.as_ref().map(Vec::is_empty));
        if labels && rules {
            Self::All
        } else {
            Self::These(Matcher::new(selector))
        }
    }

    pub(crate) fn takes(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::All => true,
            Self::These(matcher) => matcher.selects(labels),
        }
    }
}
