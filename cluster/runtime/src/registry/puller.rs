//! Puts an image together: manifest, configuration, then its layers, a few at a time.
//!
//! Whoever wants an image runs a pull of its own, and giving up is dropping it. What several want is fetched once: a layer
//! that is under way is waited for, and if its pull is given up, the next one goes on where it was.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use afloat_words::image::ImageName;
use afloat_words::keyring::Keyring;
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::sync::Semaphore;

use super::Progress;
use super::PullError;
use super::blob::{self, Partial};
use super::hosts::RegistryOptions;
use super::hosts::{Reference, Server, servers};
use super::manifest::{self, Descriptor, Document};
use super::network::Network;
use super::session::Session;
use super::transport::Transport;
use crate::image::{self, Image, ImageError, ImageStore, Lease};

/// Layers of one image that are fetched at once (containerd's default).
const LAYERS_AT_ONCE: usize = 3;
/// Layers that are unpacked at once, of all pulls.
const UNPACKED_AT_ONCE: usize = 2;
/// An index may point to indexes; deeper is nonsense.
const DEPTH_MAX: usize = 4;
/// More than any configuration.
const CONFIG_BYTES_MAX: u64 = 8 << 20;

/// What came of a pull.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// It had been here already, the very same.
    pub up_to_date: bool,
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Partial>>>>;
type WeakSlot = Weak<tokio::sync::Mutex<Option<Arc<Partial>>>>;

/// Pulls images into a store.
pub struct Puller {
    store: Arc<ImageStore>,
    transport: Transport,
    /// Layers under way, by server and digest.
    slots: Mutex<HashMap<(String, String), WeakSlot>>,
    unpacking: Semaphore,
}

impl Puller {
    /// A puller that reaches registries by `network`.
    pub fn new(store: Arc<ImageStore>, network: Arc<dyn Network>, options: RegistryOptions) -> Self {
        Self {
            store,
            transport: Transport::new(network, options),
            slots: Mutex::default(),
            unpacking: Semaphore::new(UNPACKED_AT_ONCE),
        }
    }

    /// Pulls an image, unless the registry has what is here already. To be dropped by whoever does not want it any more.
    ///
    /// # Errors
    /// See [`PullError`]; nothing of the image counts as there then.
    pub async fn pull(&self, reference: &str, keyring: &Keyring, progress: &Progress) -> Result<Pulled, PullError> {
        let full = image::normalise(reference)?;
        let parts = Reference::of(&ImageName::of(&full));
        let mut last = None;
        for server in servers(&parts.registry, &self.transport.options) {
            match self.pull_from(&server, &full, &parts, keyring, progress).await {
                Ok(pulled) => return Ok(pulled),
                // The next server may do better, but not with our own disk.
                Err(error @ (PullError::Unavailable(_) | PullError::Refused(_))) => last = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| PullError::InvalidName(format!("{full} names no registry"))))
    }

    async fn pull_from(
        &self,
        server: &Server,
        full: &str,
        parts: &Reference,
        keyring: &Keyring,
        progress: &Progress,
    ) -> Result<Pulled, PullError> {
        // A mirror has users of its own.
        let own = servers(&parts.registry, &RegistryOptions::default());
        let registry = if own.iter().any(|own| own.host == server.host) {
            &parts.registry
        } else {
            &server.host
        };
        let credentials = keyring.of(&format!("{registry}/{}", parts.repository));
        let session = Session::new(&self.transport, server, &parts.repository, credentials).await?;
        let known = self.known(full).await?;
        let same = match &known {
            None => false,
            Some(_) if parts.digest().is_some() => true,
            Some((known, _)) => session.digest_of(&parts.version).await?.as_ref() == Some(known),
        };
        let up_to_date = |image| Pulled {
            image,
            up_to_date: true,
        };
        if let Some((_, image)) = known.clone().filter(|_| same) {
            return Ok(up_to_date(image));
        }
        let (document, digests) = self.document(&session, full, &parts.version).await?;
        // Not every server answers a HEAD.
        if let Some((_, image)) = known.filter(|(known, _)| digests.first() == Some(known)) {
            return Ok(up_to_date(image));
        }
        let (config, layers) = document;
        let config = self.config(&session, &config).await?;
        let diff_ids = image::diff_ids(&config).map_err(|e| PullError::Refused(format!("{full}: {e}")))?;
        if diff_ids.len() != layers.len() {
            let (layers, named) = (layers.len(), diff_ids.len());
            return Err(PullError::Refused(format!(
                "{full} is no container image: it has {layers} layers, its configuration names {named}"
            )));
        }
        let (store, keep) = (self.store.clone(), diff_ids.clone());
        // From here on nobody may tidy the layers away.
        let lease = on_disk(move || Lease::take(&store, &keep)).await?;
        self.layers(&session, &layers, &diff_ids, progress).await?;
        let (store, name) = (self.store.clone(), full.to_owned());
        let image = on_disk(move || {
            let added = store.add_pulled(&config, &name, &digests);
            drop(lease);
            added
        })
        .await?;
        Ok(Pulled {
            image,
            up_to_date: false,
        })
    }

    /// What is here under a name that came from a registry: its digest there, and the image.
    async fn known(&self, full: &str) -> Result<Option<(String, Image)>, PullError> {
        let (store, name) = (self.store.clone(), full.to_owned());
        on_disk(move || {
            let Some(digest) = store.pulled_digest(&name)? else {
                return Ok(None);
            };
            Ok(store.find(&name)?.map(|image| (digest, image)))
        })
        .await
    }

    /// Configuration and layers, and the digests on the way to them, the outermost first.
    async fn document(
        &self,
        session: &Session<'_>,
        full: &str,
        version: &str,
    ) -> Result<((Descriptor, Vec<Descriptor>), Vec<String>), PullError> {
        // What a session says names the registry; this is about the image.
        let broken = |why: String| PullError::Refused(format!("{full}: {why}"));
        let mut version = version.to_owned();
        let mut digests = Vec::new();
        for _ in 0..DEPTH_MAX {
            let (bytes, digest) = session.manifest(&version).await?;
            digests.push(digest);
            match manifest::read(&bytes, image::architecture()).map_err(broken)? {
                Document::Manifest { config, layers } => return Ok(((config, layers), digests)),
                Document::Index(chosen) => version = chosen.digest,
            }
        }
        Err(broken("indexes in indexes without end".to_owned()))
    }

    async fn config(&self, session: &Session<'_>, config: &Descriptor) -> Result<Vec<u8>, PullError> {
        if config.size > CONFIG_BYTES_MAX {
            return Err(PullError::Refused(format!(
                "its configuration has {} bytes",
                config.size
            )));
        }
        let partial = self.partial().await?;
        blob::fetch(session, config, &partial, &Progress::default()).await?;
        on_disk(move || std::fs::read(partial.path()).map_err(ImageError::io(partial.path()))).await
    }

    async fn layers(
        &self,
        session: &Session<'_>,
        layers: &[Descriptor],
        diff_ids: &[String],
        progress: &Progress,
    ) -> Result<(), PullError> {
        let (store, wanted) = (self.store.clone(), diff_ids.to_vec());
        let here = on_disk(move || Ok(wanted.iter().map(|layer| store.has_layer(layer)).collect::<Vec<_>>())).await?;
        let mut missing: Vec<(Descriptor, String)> = Vec::new();
        for ((layer, diff_id), here) in layers.iter().zip(diff_ids).zip(here) {
            // An image may have a layer twice (empty ones, usually).
            if !here && !missing.iter().any(|(_, known)| known == diff_id) {
                progress.total.fetch_add(layer.size, Ordering::Relaxed);
                missing.push((layer.clone(), diff_id.clone()));
            }
        }
        let wanted = missing
            .iter()
            .fold(0, |all: u64, (layer, _)| all.saturating_add(layer.size));
        let dir = self.store.dir().to_owned();
        let left = on_disk(move || {
            let facts = rustix::fs::statvfs(&dir).map_err(|error| ImageError::io(&dir)(error.into()))?;
            Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
        });
        let left = left.await?;
        if wanted > left {
            // Before it fills the disk, and not only when it has.
            let why = format!(
                "no space left on the node's disk: the layers have {wanted} bytes, and there is room for {left}"
            );
            return Err(PullError::DiskFull(why));
        }
        futures::stream::iter(missing)
            .map(|(layer, diff_id)| self.layer(session, layer, diff_id, progress))
            .buffer_unordered(LAYERS_AT_ONCE)
            .try_collect()
            .await
    }

    async fn layer(
        &self,
        session: &Session<'_>,
        layer: Descriptor,
        diff_id: String,
        progress: &Progress,
    ) -> Result<(), PullError> {
        let slot = self.slot(&session.host, &layer.digest);
        let mut held = slot.lock().await;
        let (store, wanted) = (self.store.clone(), diff_id.clone());
        if on_disk(move || Ok(store.has_layer(&wanted))).await? {
            // Another pull has brought it meanwhile.
            progress.add(layer.size);
            return Ok(());
        }
        let partial = match &*held {
            Some(partial) => partial.clone(),
            None => held.insert(self.partial().await?).clone(),
        };
        let fetched = blob::fetch(session, &layer, &partial, progress).await;
        if let Err(error) = fetched {
            // Of a full disk nothing may stay occupied; otherwise the next attempt goes on here.
            if !matches!(error, PullError::Unavailable(_)) {
                *held = None;
            }
            return Err(error);
        }
        *held = None;
        let permit = self
            .unpacking
            .acquire()
            .await
            .map_err(|e| PullError::Local(e.to_string()))?;
        let store = self.store.clone();
        let unpacked = on_disk(move || {
            let added = store.add_layer_file(partial.path());
            // What the system says of a file is our trouble; what is wrong with the archive is the registry's.
            Ok(match added {
                Err(ImageError::Io { source, .. }) if source.raw_os_error().is_none() => Err(source.to_string()),
                other => Ok(other?),
            })
        });
        let got = unpacked
            .await?
            .map_err(|e| PullError::Refused(format!("layer {} cannot be unpacked: {e}", layer.digest)))?;
        drop(permit);
        if got != diff_id {
            return Err(PullError::Refused(format!(
                "layer {} is damaged: its content has the digest sha256:{got}, its image's configuration says sha256:{diff_id}",
                layer.digest
            )));
        }
        Ok(())
    }

    fn slot(&self, host: &str, digest: &str) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| slot.strong_count() > 0);
        let key = (host.to_owned(), digest.to_owned());
        if let Some(slot) = slots.get(&key).and_then(Weak::upgrade) {
            return slot;
        }
        let slot = Slot::default();
        slots.insert(key, Arc::downgrade(&slot));
        slot
    }

    async fn partial(&self) -> Result<Arc<Partial>, PullError> {
        let path = self.store.partial_path();
        on_disk(move || {
            Partial::create(path.clone())
                .map(Arc::new)
                .map_err(ImageError::io(path))
        })
        .await
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, PullError> {
    let work: Box<dyn FnOnce() -> _ + Send> = Box::new(work);
    let done = tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| PullError::Local(e.to_string()))?;
    done.map_err(PullError::from)
}
