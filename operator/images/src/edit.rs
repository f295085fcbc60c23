//! What a NodeImage is to say, in the making: several jobs may want something of one node, and it becomes one write.

use std::collections::BTreeMap;

use afloat_api::{
    IF_NOT_PRESENT, ImageKey, ImagePullJob, NodeImage, NodeImageSpec, SecretReference, TagPullPolicy, TagSpec, names,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;

use crate::time::seconds;

/// Images of one node, as OpenKruise has it.
const IMAGES_MAX: usize = 256;
/// Seconds that an entry stays after its end, beside what the job says; OpenKruise draws up to 300 more.
const STAYS: i32 = 300;
/// The same for jobs that never end: a day.
const STAYS_FOR_EVER: i32 = 24 * 3600;
/// Shortest limit of a pull for a job that never ends.
const NEVER_DEADLINE: i64 = 1800;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    pub(crate) spec: NodeImageSpec,
    pub(crate) labels: BTreeMap<String, String>,
}

impl Edit {
    pub(crate) fn of(image: &NodeImage) -> Self {
        Self {
            spec: image.spec.clone(),
            labels: image.metadata.labels.clone().unwrap_or_default(),
        }
    }

    /// Asks for the job's image. False: the node has as many images as it may have.
    pub(crate) fn ask(
        &mut self,
        node: &NodeImage,
        (job, key): (&ImagePullJob, &ImageKey),
        secrets: &[SecretReference],
        now: Timestamp,
    ) -> bool {
        if !self.spec.images.contains_key(&key.name) && self.spec.images.len() >= IMAGES_MAX {
            return false;
        }
        let image = self.spec.images.entry(key.name.clone()).or_default();
        image.sandbox_config.clone_from(&job.spec.template.sandbox_config);
        let policy = job.spec.template.image_pull_policy.clone().unwrap_or_default();
        match image.tags.iter_mut().find(|tag| tag.tag == key.tag) {
            Some(tag) => {
                let status = node.progress(&key.name, &key.tag, tag.version);
                let under_way = !status.is_some_and(|status| status.phase.ended());
                // Who asks for what is being pulled joins in, unless only a pull of its own will do.
                if !(under_way && [IF_NOT_PRESENT, &tag.image_pull_policy].contains(&policy.as_str())) {
                    tag.version = tag.version.saturating_add(1);
                    tag.created_at = Some(seconds(now));
                    tag.image_pull_policy = policy;
                }
                tag.owner_references.push(owner(job));
                tag.pull_policy = Some(limits(job));
            }
            None => {
                let before = node.status.of(&key.name, &key.tag);
                image.tags.push(TagSpec {
                    tag: key.tag.clone(),
                    created_at: Some(seconds(now)),
                    pull_policy: Some(limits(job)),
                    owner_references: vec![owner(job)],
                    // A status of before says nothing about this one.
                    version: before.map_or(0, |status| status.version.saturating_add(1)),
                    image_pull_policy: policy,
                });
                image.tags.sort_by(|a, b| a.tag.cmp(&b.tag));
            }
        }
        self.log_in(key, secrets);
        true
    }

    /// Says where the logins are.
    pub(crate) fn log_in(&mut self, key: &ImageKey, secrets: &[SecretReference]) {
        let Some(image) = self.spec.images.get_mut(&key.name) else {
            return;
        };
        for secret in secrets {
            let known = |other: &SecretReference| (&other.namespace, &other.name) == (&secret.namespace, &secret.name);
            if !image.pull_secrets.iter().any(known) {
                image.pull_secrets.push(secret.clone());
            }
        }
    }

    /// Takes over limits that the job has been given since (kruise #2221), where it is the last that asked.
    pub(crate) fn follow(&mut self, job: &ImagePullJob, key: &ImageKey) {
        let Some(image) = self.spec.images.get_mut(&key.name) else {
            return;
        };
        let tag = image.tags.iter_mut().find(|tag| tag.tag == key.tag);
        let last = |tag: &&mut TagSpec| {
            let last = tag.owner_references.last();
            last.is_some_and(|owner| owner.uid == job.metadata.uid)
        };
        if let Some(tag) = tag.filter(last) {
            tag.pull_policy = Some(limits(job));
        }
    }
}

fn owner(job: &ImagePullJob) -> ObjectReference {
    ObjectReference {
        api_version: Some(names::API_VERSION.into()),
        kind: Some("ImagePullJob".into()),
        name: job.metadata.name.clone(),
        namespace: job.metadata.namespace.clone(),
        uid: job.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

/// Limits of a job's pulls. OpenKruise draws lots so that not all entries go at once; here the UID does, so that the same job always
/// asks for the same.
fn limits(job: &ImagePullJob) -> TagPullPolicy {
    let template = &job.spec.template;
    let policy = template.pull_policy.unwrap_or_default();
    let (timeout, retries) = (policy.timeout_seconds.unwrap_or(600), policy.backoff_limit.unwrap_or(3));
    let completion = &template.completion_policy;
    let lot = |below: i32| {
        let uid = job.metadata.uid.as_deref().unwrap_or_default();
        let sum = uid
            .bytes()
            .fold(7_i32, |sum, byte| sum.wrapping_mul(31).wrapping_add(i32::from(byte)));
        sum.rem_euclid(below)
    };
    let (stays, deadline) = if template.never_ends() {
        let timeout = i64::from(timeout);
        (STAYS_FOR_EVER - 600 + lot(1200), Some(timeout.max(NEVER_DEADLINE)))
    } else {
        let deadline = completion.active_deadline_seconds;
        let most = deadline.map(|seconds| i32::try_from(seconds).unwrap_or(i32::MAX));
        let base = completion.ttl_seconds_after_finished.or(most);
        let base = base.unwrap_or_else(|| timeout.saturating_mul(retries));
        (base.saturating_add(STAYS + lot(300)), deadline)
    };
    TagPullPolicy {
        timeout_seconds: Some(timeout),
        backoff_limit: Some(retries),
        ttl_seconds_after_finished: Some(stays),
        active_deadline_seconds: deadline,
    }
}
