//! What a worker does about its pod's volumes, and how it hears that what they show has changed.

use std::collections::BTreeMap;

use afloat_runtime::Mount;
use k8s_openapi::api::core::v1::{Container, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Api;

use super::token;
use super::{Worker, blocking};
use crate::clock::later;
use crate::context::Context;
use crate::options::API_LIMIT;
use crate::pod::container::resolve::{self, Origin};
use crate::pod::spec;
use crate::pod::volumes::MEASURE;
use crate::told::told;
use crate::volume::claim::{self, Place};
use crate::volume::{self, Inputs, References, host_path, termination_log};

impl Worker {
    /// Makes all volumes, before the first container is.
    pub(crate) async fn prepare_volumes(&mut self) -> Result<(), String> {
        self.state.volumes.stale = false;
        let mut inputs = self.inputs().await?;
        inputs.claims = claim_places(&self.context, &self.pod).await?;
        self.mount_memory().await?;
        let (pod, dirs) = (self.pod.clone(), self.dirs.clone());
        blocking(move || volume::prepare(&pod, &dirs, &inputs)).await?;
        let now = self.context.clock.now();
        self.state.volumes.refreshed(true, now);
        self.state.volumes.measure_at = volume::limited(&self.pod).next().map(|_| later(now, MEASURE));
        Ok(())
    }

    /// Brings files up to date that show objects of the API.
    pub(crate) async fn refresh_volumes(&mut self) {
        let result = match self.inputs().await {
            Ok(inputs) => {
                let (pod, dirs) = (self.pod.clone(), self.dirs.clone());
                blocking(move || volume::refresh(&pod, &dirs, &inputs)).await
            }
            Err(message) => Err(message),
        };
        let now = self.context.clock.now();
        self.state.volumes.refreshed(result.is_ok(), now);
        if let Err(message) = result {
            self.event(None, true, "FailedMount", &message, now);
        }
    }

    /// Fetches what the files of volumes show.
    async fn inputs(&mut self) -> Result<Inputs, String> {
        let references = volume::volume_references(&self.pod);
        let asked = References {
            config_maps: without(&references.config_maps, &self.kept.config_maps),
            secrets: without(&references.secrets, &self.kept.secrets),
        };
        let mut sources = self.sources(asked, None).await?;
        let maps = sources
            .config_maps
            .iter()
            .filter(|(_, map)| map.immutable == Some(true));
        self.kept
            .config_maps
            .extend(maps.map(|(name, map)| (name.clone(), map.clone())));
        let secrets = sources
            .secrets
            .iter()
            .filter(|(_, secret)| secret.immutable == Some(true));
        self.kept
            .secrets
            .extend(secrets.map(|(name, secret)| (name.clone(), secret.clone())));
        sources.config_maps.extend(self.kept.config_maps.clone());
        sources.secrets.extend(self.kept.secrets.clone());

        let renewed = token::renew(&self.context, &self.pod, &mut self.kept.tokens).await;
        self.state.volumes.renew_at = self.kept.tokens.values().map(|token| token.renew_at).min();
        let complete = token::wanted(&self.pod)
            .iter()
            .all(|(place, _)| self.kept.tokens.contains_key(place));
        match renewed {
            Err(message) if !complete => return Err(message),
            // What there is is good for some time yet: it is tried again in a while.
            Err(message) => {
                tracing::warn!(pod = spec::full_name(&self.pod), message, "token not renewed");
                self.state.volumes.renew_at = Some(later(self.context.clock.now(), MEASURE));
            }
            Ok(()) => {}
        }
        let tokens = self
            .kept
            .tokens
            .iter()
            .map(|(place, token)| (place.clone(), token.text.clone()));
        Ok(Inputs {
            sources,
            tokens: tokens.collect(),
            claims: BTreeMap::new(),
        })
    }

    async fn mount_memory(&self) -> Result<(), String> {
        let node = self.context.options.capacity.memory_bytes;
        for (volume, size) in volume::in_memory(&self.pod, node) {
            let path = self.dirs.volume(volume);
            let mounted = self
                .context
                .limited(self.context.runtime.mount_memory(&path, size))
                .await;
            mounted.map_err(|error| format!("MountVolume.SetUp failed for volume \"{volume}\" : {error}"))?;
        }
        Ok(())
    }

    /// Looks how large emptyDirs are that have a limit.
    pub(crate) async fn measure_volumes(&mut self) {
        let (pod, dirs) = (self.pod.clone(), self.dirs.clone());
        let found = blocking(move || Ok(volume::excess(&pod, &dirs))).await;
        self.state.volumes.excess = found.unwrap_or(None);
        self.state.volumes.measure_at = Some(later(self.context.clock.now(), MEASURE));
    }

    /// The container's mounts, with `subPath`s found or made.
    pub(crate) async fn mounts(
        &self,
        container: &Container,
        attempt: u32,
        variables: &[(String, String)],
    ) -> Result<Vec<Mount>, String> {
        let planned = resolve::mounts(&self.pod, container, attempt, &self.dirs, variables)?;
        blocking(move || {
            let settled = planned.into_iter().map(|planned| {
                let mut mount = planned.mount;
                if !planned.sub_path.is_empty() {
                    mount.found = Some(volume::sub_path(&mount.source, &planned.sub_path, planned.may_make)?);
                    return Ok(mount);
                }
                match planned.origin {
                    Origin::Pod => {}
                    Origin::Node => host_path::make_missing(&mount.source)?,
                    Origin::TerminationLog => termination_log::make(&mount.source)?,
                }
                Ok(mount)
            });
            settled.collect()
        })
        .await
    }
}

fn without<T>(
    all: &std::collections::BTreeSet<String>,
    known: &BTreeMap<String, T>,
) -> std::collections::BTreeSet<String> {
    all.iter().filter(|name| !known.contains_key(*name)).cloned().collect()
}

/// Where the contents of the pod's claims are, by volume; the kubelet's sentence about the first that cannot be had.
async fn claim_places(context: &Context, pod: &Pod) -> Result<BTreeMap<String, Place>, String> {
    let mut places = BTreeMap::new();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), spec::namespace(pod));
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    for (volume, name) in volume::claims(pod) {
        let fetch = async {
            let found = claims.get_opt(&name).await.map_err(|error| told(&error))?;
            let bound = claim::bound_volume(pod, &name, found.as_ref())?;
            let found = volumes.get_opt(&bound).await.map_err(|error| told(&error))?;
            claim::directory(
                context.options.node_name.as_str(),
                &context.options.dir,
                &bound,
                found.as_ref(),
            )
        };
        let fetched = tokio::time::timeout(API_LIMIT, fetch).await;
        let told = |error| format!("MountVolume.SetUp failed for volume \"{volume}\" : {error}");
        let place = fetched.unwrap_or_else(|_| Err("no answer from the API server in time".to_owned()));
        let place = place.map_err(told)?;
        let making = place.clone();
        blocking(move || making.make()).await.map_err(told)?;
        places.insert(volume.to_owned(), place);
    }
    Ok(places)
}
