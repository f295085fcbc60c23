//! Which nodes a job is about, and how far each of them is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use afloat_api::{ImageKey, ImagePullJob, NodeImage, PullPhase, names};
use jiff::Timestamp;

use crate::time::after;
use crate::world::{Choice, Machine, World};

/// A node has to answer within so many seconds, as in OpenKruise.
pub(crate) const RESPONSE: i64 = 600;

/// NodeImages and nodes by name.
#[derive(Debug)]
pub(crate) struct Index<'a> {
    /// Those that are not being deleted.
    pub(crate) images: BTreeMap<&'a str, &'a Arc<NodeImage>>,
    pub(crate) machines: BTreeMap<&'a str, &'a Machine<'a>>,
}

impl<'a> Index<'a> {
    pub(crate) fn of(world: &World<'a>) -> Self {
        let here = world
            .node_images
            .iter()
            .filter(|image| image.metadata.deletion_timestamp.is_none());
        let name = |image: &'a Arc<NodeImage>| image.metadata.name.as_deref().unwrap_or_default();
        Self {
            images: here.map(|image| (name(image), image)).collect(),
            machines: world.nodes.iter().map(|machine| (machine.name(), machine)).collect(),
        }
    }

    /// Whether the node of a NodeImage is gone, or is about to be.
    pub(crate) fn is_gone(&self, image: &NodeImage) -> bool {
        let labels = image.metadata.labels.as_ref();
        let name = image.metadata.name.as_deref().unwrap_or_default();
        let stays = self.machines.get(name).is_some_and(|machine| machine.stays());
        !stays && !labels.is_some_and(|labels| labels.contains_key(names::FAKE_NODE_IMAGE))
    }

    fn ready(&self, node: &str) -> bool {
        self.machines.get(node).is_some_and(|machine| machine.ready)
    }

    /// Nodes in the order in which they are asked: those first that can answer.
    pub(crate) fn order<'n>(&self, nodes: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
        let mut nodes: Vec<_> = nodes.collect();
        nodes.sort_by_key(|node| (!self.ready(node), *node));
        nodes
    }
}

/// How far a node is with a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has not been asked.
    Unasked,
    /// It cannot be asked yet.
    Absent,
    /// It has been asked, and has not ended.
    Active,
    /// It has the image.
    Succeeded,
    /// It has given up, or is not there.
    Failed(String),
}

/// The nodes that a job chooses; None while they are not known.
fn chosen<'a>(job: &'a ImagePullJob, index: &Index<'a>, world: &World<'a>) -> Option<BTreeSet<&'a str>> {
    let template = &job.spec.template;
    if let Some(selector) = &template.pod_selector {
        let choice = Choice::of(selector);
        let namespace = job.metadata.namespace.as_deref();
        let pods = world.pods?.iter();
        let pods = pods.filter(|pod| {
            pod.active && !pod.node.is_empty() && Some(pod.namespace.as_str()) == namespace && choice.takes(&pod.labels)
        });
        return Some(pods.map(|pod| pod.node.as_str()).collect());
    }
    let Some(selector) = &template.selector else {
        return Some(index.images.keys().copied().collect());
    };
    if let Some(names) = &selector.names {
        return Some(names.iter().map(String::as_str).collect());
    }
    let choice = Choice::of(&selector.labels());
    let none = BTreeMap::new();
    let taken = index
        .images
        .iter()
        .filter(|(_, image)| choice.takes(image.metadata.labels.as_ref().unwrap_or(&none)));
    Some(taken.map(|(name, _)| *name).collect())
}

/// How far each node of a job is; None while that is not known.
pub(crate) fn states<'a>(
    job: &'a ImagePullJob,
    key: &ImageKey,
    index: &Index<'a>,
    world: &World<'a>,
) -> Option<BTreeMap<&'a str, State>> {
    let mut nodes = chosen(job, index, world)?;
    if !job.spec.template.never_ends() {
        // A node that has gone is remembered as long as the job goes on: it is an error, and not fewer nodes.
        let failed = job.status.failed_nodes.iter().map(String::as_str);
        nodes.extend(failed.filter(|node| !index.images.contains_key(node)));
    }
    let began = job.status.start_time.as_ref().map_or(world.now, |time| time.0);
    let state = |node: &'a str| (node, state(job, key, node, index, (began, world.now)));
    Some(nodes.into_iter().map(state).collect())
}

fn state(
    job: &ImagePullJob,
    key: &ImageKey,
    node: &str,
    index: &Index<'_>,
    (began, now): (Timestamp, Timestamp),
) -> State {
    let Some(image) = index.images.get(node) else {
        return match index.machines.get(node) {
            None => State::Failed("there is no such node".into()),
            Some(machine) if !machine.stays() => State::Failed("the node has no images, or goes".into()),
            Some(_) if after(began, RESPONSE) <= now => {
                State::Failed("node has not responded for a long time: it has no NodeImage".into())
            }
            Some(_) => State::Absent,
        };
    };
    let state = asked(job, key, image);
    if state != State::Succeeded && index.is_gone(image) {
        return State::Failed("the node is gone".into());
    }
    state
}

/// What the NodeImage says.
fn asked(job: &ImagePullJob, key: &ImageKey, image: &NodeImage) -> State {
    let uid = job.metadata.uid.as_deref();
    let tag = image.spec.of(&key.name, &key.tag);
    let owned = tag.filter(|tag| tag.owner_references.iter().any(|owner| owner.uid.as_deref() == uid));
    let Some(tag) = owned else { return State::Unasked };
    match image.progress(&key.name, &key.tag, tag.version) {
        Some(status) if status.phase == PullPhase::Succeeded => State::Succeeded,
        Some(status) if status.phase == PullPhase::Failed => State::Failed(status.message.clone()),
        _ => State::Active,
    }
}
