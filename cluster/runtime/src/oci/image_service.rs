//! Images for all nodes of this process: pulled when asked for, removed when the disk fills up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::containers::Containers;
use crate::image::{Candidate, Disk, ImageError, ImageStore, Thresholds, collection, layers_in_use};
use crate::registry::{Keyring, Progress, PullError, Pulled, Puller};
use crate::runtime::not_here;

/// The disk is looked at this often.
const LOOK: Duration = Duration::from_secs(30);
const LOOK_MIN: Duration = Duration::from_secs(2);

/// See the module.
pub struct ImageService {
    store: Arc<ImageStore>,
    /// None: nothing is pulled here.
    puller: Option<Puller>,
    thresholds: Thresholds,
    /// The directory of the nodes' directories.
    nodes_dir: PathBuf,
    nodes: Mutex<Vec<Weak<Containers>>>,
    /// Since when each image is known, and when it was last used.
    seen: Mutex<BTreeMap<String, (Timestamp, Timestamp)>>,
    pressure: AtomicBool,
    wake: Notify,
}

impl ImageService {
    /// For the nodes that keep their containers below `nodes_dir`; without a puller, nothing is pulled.
    pub fn new(
        store: Arc<ImageStore>,
        puller: Option<Puller>,
        thresholds: Thresholds,
        nodes_dir: PathBuf,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            puller,
            thresholds,
            nodes_dir,
            nodes: Mutex::default(),
            seen: Mutex::default(),
            pressure: AtomicBool::new(false),
            wake: Notify::new(),
        })
    }

    /// Leaves alone from now on what these containers use.
    pub(super) fn spare(&self, containers: &Arc<Containers>) {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.push(Arc::downgrade(containers));
    }

    pub(super) async fn pull(
        &self,
        reference: &str,
        keyring: &Keyring,
        progress: &Progress,
    ) -> Result<Pulled, PullError> {
        let Some(puller) = &self.puller else {
            return Err(PullError::Refused(not_here(reference)));
        };
        let result = puller.pull(reference, keyring, progress).await;
        if matches!(result, Err(PullError::DiskFull(_))) {
            self.wake.notify_one();
        }
        result
    }

    pub(super) fn disk_pressure(&self) -> bool {
        self.pressure.load(Ordering::Relaxed)
    }

    /// Looks after the disk for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            let me = self.clone();
            match tokio::task::spawn_blocking(move || me.tidy(Timestamp::now())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "unused images not removed"),
                Err(error) => tracing::error!(%error, "removing unused images broke off"),
            }
            // Whoever keeps images for a shorter time wants it looked at more often.
            let wait = self.thresholds.minimum_age.clamp(LOOK_MIN, LOOK);
            let _ = tokio::time::timeout(wait, self.wake.notified()).await;
        }
    }

    /// Blocks.
    fn tidy(&self, now: Timestamp) -> Result<(), ImageError> {
        let candidates = self.candidates(now)?;
        let dir = self.store.dir();
        let mut disk = disk(dir)?;
        for id in collection(disk, &self.thresholds, &candidates, now) {
            // Measured, not added up: images share layers.
            if disk.excess(self.thresholds.low_percent) == 0 {
                break;
            }
            tracing::info!(image = id, "removing an unused image: the disk is filling up");
            self.store.remove(&id)?;
            self.store.prune(&layers_in_use(&self.nodes_dir))?;
            disk = self::disk(dir)?;
        }
        self.pressure.store(disk.pressure(), Ordering::Relaxed);
        Ok(())
    }

    fn candidates(&self, now: Timestamp) -> Result<Vec<Candidate>, ImageError> {
        let used = self.used();
        let images = self.store.list()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|id, _| images.iter().any(|image| image.id == *id));
        let mut candidates = Vec::new();
        for image in images {
            let entry = seen.entry(image.id.clone()).or_insert((now, Timestamp::UNIX_EPOCH));
            let in_use = used.contains(&image.id);
            if in_use {
                entry.1 = now;
            }
            let only_here = !self.store.is_pulled(&image)?;
            let (first_seen, last_used) = *entry;
            candidates.push(Candidate {
                id: image.id,
                first_seen,
                last_used,
                in_use,
                only_here,
            });
        }
        Ok(candidates)
    }

    /// Images of all containers, ended ones included, as the kubelet counts.
    fn used(&self) -> BTreeSet<String> {
        let mut nodes = self.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|node| node.strong_count() > 0);
        let nodes: Vec<_> = nodes.iter().filter_map(Weak::upgrade).collect();
        let ids = |node: Arc<Containers>| -> Vec<String> {
            node.lock()
                .values()
                .map(|entry| entry.record.image_id.clone())
                .collect()
        };
        nodes.into_iter().flat_map(ids).collect()
    }
}

fn disk(dir: &Path) -> Result<Disk, ImageError> {
    let facts = rustix::fs::statvfs(dir).map_err(|e| ImageError::io(dir)(e.into()))?;
    Ok(Disk {
        capacity: facts.f_blocks.saturating_mul(facts.f_frsize),
        available: facts.f_bavail.saturating_mul(facts.f_frsize),
    })
}
