//! Secrets that running jobs name. They are read by name and looked at again as long as the jobs run: a right to list them would be one
//! to all secrets of the cluster at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afloat_api::ImagePullJob;
use afloat_images::sources;
use afloat_images::world::Source;
use afloat_words::key::Key;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use crate::round::act::REQUEST_TIMEOUT;

/// How old what is known of a secret may be.
const AGE: Duration = Duration::from_secs(5);
/// Reads at the same time.
const PARALLEL: usize = 8;

/// What is known of secrets.
#[derive(Default)]
pub(super) struct Logins {
    known: BTreeMap<Key, Source>,
    read: BTreeMap<Key, Instant>,
}

impl Logins {
    pub(super) fn known(&self) -> &BTreeMap<Key, Source> {
        &self.known
    }

    /// Reads what has to be read for the jobs that run, and forgets the others; says when to do so again.
    pub(super) async fn look(&mut self, client: &Client, jobs: &[Arc<ImagePullJob>]) -> Option<Duration> {
        let running = jobs
            .iter()
            .filter(|job| job.status.completion_time.is_none() && job.metadata.deletion_timestamp.is_none());
        let mut needed: Vec<Key> = running.flat_map(|job| sources(job)).collect();
        needed.sort();
        needed.dedup();
        self.known.retain(|key, _| needed.contains(key));
        self.read.retain(|key, _| needed.contains(key));
        let old = |key: &&Key| self.read.get(*key).is_none_or(|read| read.elapsed() >= AGE);
        let open: Vec<Key> = needed.iter().filter(old).cloned().collect();
        let mut found = futures::stream::iter(open)
            .map(|key| async move {
                let api: Api<Secret> = Api::namespaced(client.clone(), &key.namespace);
                let answer = tokio::time::timeout(REQUEST_TIMEOUT, api.get_opt(&key.name)).await;
                (key, answer)
            })
            .buffer_unordered(PARALLEL);
        while let Some((key, answer)) = found.next().await {
            self.read.insert(key.clone(), Instant::now());
            match answer {
                Ok(Ok(Some(secret))) => drop(self.known.insert(key, Source::There(Box::new(secret)))),
                Ok(Ok(None)) => drop(self.known.insert(key, Source::Missing)),
                // What was known stays known.
                Ok(Err(error)) => tracing::warn!(secret = %key, %error, "a pull secret cannot be read"),
                Err(_) => tracing::warn!(secret = %key, "a pull secret cannot be read in time"),
            }
        }
        let next = self.read.values().map(|read| AGE.saturating_sub(read.elapsed())).min();
        next.map(|next| next + Duration::from_millis(1))
    }
}
