//! Carries out one step. Each write may be the last one before the program dies: what is left is planned anew from what is
//! seen.

use afloat_api::{Gates, Version};
use anyhow::{Context as _, bail};
use json_patch::{AddOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation, TestOperation};
use kube::Client;
use serde_json::{Value, json};

use super::ask::{self, everywhere, in_namespace};
use super::cluster::{self, Which};
use super::definitions::{Definitions, storage, version};
use super::kept::{self, Kept, bare};
use super::kruise;
use super::marks::{HOLD_SECONDS, REPLICAS};
use super::plan::{Ours, Step};
use super::seen::{Manager, Seen};
use super::text::Place;
use super::wait::until;

/// Replicas of a manager that nobody remembers.
const FEW: i64 = 1;

/// What a step is done with.
pub(super) struct Hands<'a> {
    pub(super) client: &'a Client,
    pub(super) place: &'a Place,
    pub(super) ours: &'a Ours,
}

impl Hands<'_> {
    /// Makes the writes of a step. What they bring about may take a while to be seen.
    pub(super) async fn perform(&self, step: Step, seen: &Seen) -> anyhow::Result<()> {
        match step {
            Step::Keep => self.keep(seen).await,
            Step::Install => self.install(seen).await,
            Step::Hold => self.hold(seen).await,
            Step::RemoveWebhooks => self.remove_webhooks(seen).await,
            Step::Serve => self.put_crds(seen, |_, crd| Some(storage(crd))).await,
            Step::Store => self.put_crds(seen, |_, _| Some(Version::V1beta1)).await,
            Step::StoreAsKruise => {
                let kept = kept(seen)?;
                let old = |name: &str, _: &Value| (!kept.knew_v1beta1(name)).then_some(Version::V1alpha1);
                self.put_crds(seen, old).await
            }
            Step::Stop => self.stop(seen.kruise.as_ref(), self.kruise()).await,
            Step::StopAfloat => self.stop_afloat(seen).await,
            Step::OfferWebhooks => self.offer_webhooks(seen).await,
            Step::Start => self.start(seen).await,
            Step::RestoreWebhooks => self.restore_webhooks(seen).await,
            Step::RestoreCrd => self.restore_crds(seen).await,
            Step::Lead | Step::LeadKruise => Ok(()),
            Step::Forget => cluster::forget(self.client).await,
            Step::Fill => cluster::fill(self.client).await,
            Step::Remove => self.remove(seen).await,
        }
    }

    fn kruise(&self) -> Which<'_> {
        in_namespace("apps/v1", "Deployment", &self.place.namespace, &self.place.kruise)
    }

    fn afloat(&self) -> Which<'_> {
        in_namespace(
            "apps/v1",
            "Deployment",
            &self.place.afloat_namespace,
            &self.place.afloat,
        )
    }

    async fn keep(&self, seen: &Seen) -> anyhow::Result<()> {
        let mut installed = Vec::new();
        // The operators make it, for their webhook.
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"namespace": self.place.afloat_namespace, "name": afloat_api::names::WEBHOOK_SECRET},
        });
        for object in self.ours.objects.iter().chain([&secret]) {
            // CRDs have objects, and a namespace may have got others: they stay.
            let stays = ["CustomResourceDefinition", "Namespace"]
                .iter()
                .any(|kind| object["kind"] == *kind);
            if !stays && cluster::get(self.client, Which::of(object)).await?.is_none() {
                let which = Which::of(object);
                installed.push(json!({
                    "apiVersion": which.version, "kind": which.kind,
                    "metadata": {"namespace": which.namespace, "name": which.name},
                }));
            }
        }
        let kept = Kept {
            webhooks: seen.webhooks.each_ref().map(|webhooks| webhooks.as_ref().map(bare)),
            crds: Definitions(
                seen.crds
                    .0
                    .iter()
                    .map(|(name, crd)| (name.clone(), bare(crd)))
                    .collect(),
            ),
            installed,
            before: Some(ask::census(self.client).await?),
        };
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": self.place.namespace, "name": kept::NAME},
            "data": kept.data().map_err(anyhow::Error::msg)?,
        });
        cluster::create(self.client, &object).await.map(|_| ())
    }

    async fn install(&self, seen: &Seen) -> anyhow::Result<()> {
        match &seen.afloat {
            // Whoever installed it chose its settings.
            Some(afloat) if afloat.replicas() > 0 => Ok(()),
            Some(afloat) => {
                let replicas = afloat.remembered().unwrap_or(FEW);
                let patch = json!({"metadata": {"annotations": {REPLICAS: null}}, "spec": {"replicas": replicas}});
                cluster::merge(self.client, self.afloat(), &patch).await
            }
            None => {
                for object in &self.ours.objects {
                    let group = object["spec"]["group"].as_str().unwrap_or_default();
                    if kruise::GROUPS.contains(&group) {
                        // A definition of Kruise that is there stays.
                        cluster::create(self.client, object).await?;
                    } else {
                        cluster::apply(self.client, object).await?;
                    }
                }
                Ok(())
            }
        }
    }

    async fn hold(&self, seen: &Seen) -> anyhow::Result<()> {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"namespace": self.place.namespace, "name": kruise::HOLD_LEASE},
            "spec": {"holderIdentity": kruise::HOLD_LEASE, "leaseDurationSeconds": HOLD_SECONDS},
        });
        cluster::create(self.client, &lease).await?;
        let Some(kruise) = seen.kruise.as_ref().filter(|kruise| !kruise.held()) else {
            return Ok(());
        };
        let path = arguments_path(&kruise.deployment);
        let mut arguments = written_arguments(&kruise.deployment);
        arguments.push(kruise::HOLD_ARGUMENT.into());
        let operations = vec![same(&kruise.deployment)?, add(&path, Value::Array(arguments))?];
        cluster::patch(self.client, self.kruise(), Patch(operations)).await
    }

    async fn remove_webhooks(&self, seen: &Seen) -> anyhow::Result<()> {
        let kept = kept(seen)?;
        for (number, (kind, name)) in kruise::WEBHOOKS.into_iter().enumerate() {
            if seen.webhooks[number].is_some() && kept.webhooks[number].is_none() {
                bail!("{kind} {name} was not there when the takeover began: whoever made it has to remove it");
            }
            cluster::delete(self.client, everywhere("admissionregistration.k8s.io/v1", kind, name)).await?;
        }
        Ok(())
    }

    /// Our CRDs in the place of those that are there, with all objects to be stored in that version; None leaves one as it is.
    async fn put_crds(&self, seen: &Seen, stored: impl Fn(&str, &Value) -> Option<Version>) -> anyhow::Result<()> {
        for (name, crd) in &seen.crds.0 {
            let Some(stored) = stored(name, crd) else { continue };
            let wanted = self.ours.crd(name, stored, seen.authority.as_deref());
            put_spec(self.client, crd, &wanted).await?;
            let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
            for version in ["v1beta1", "v1alpha1"] {
                let readable = async || cluster::can_read(self.client, kind, version).await;
                until(self.place.timeout, readable)
                    .await
                    .with_context(|| format!("{kind}s cannot be read as {version} any more"))?;
            }
        }
        Ok(())
    }

    async fn restore_crds(&self, seen: &Seen) -> anyhow::Result<()> {
        for (name, kept) in &kept(seen)?.crds.0 {
            let crd = seen.crds.0.get(name);
            put_spec(
                self.client,
                crd.with_context(|| format!("there is no CRD {name}"))?,
                kept,
            )
            .await?;
        }
        Ok(())
    }

    /// An object that is stored in a version that Kruise's CRD lacks could not be read any more, and the operator may have written
    /// some in the moment in which the API server had not yet learned of the new version itself. Written once more they are stored
    /// in it for certain; where they are already, this writes nothing.
    async fn stop_afloat(&self, seen: &Seen) -> anyhow::Result<()> {
        let kept = kept(seen)?;
        for (name, crd) in &seen.crds.0 {
            if !kept.knew_v1beta1(name) && version(crd, "v1beta1").0 {
                let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
                cluster::rewrite(self.client, kind).await?;
            }
        }
        self.stop(seen.afloat.as_ref(), self.afloat()).await
    }

    async fn stop(&self, manager: Option<&Manager>, which: Which<'_>) -> anyhow::Result<()> {
        let Some(manager) = manager.filter(|manager| manager.replicas() > 0) else {
            return Ok(());
        };
        let replicas = manager.replicas().to_string();
        let patch = json!({"metadata": {"annotations": {REPLICAS: replicas}}, "spec": {"replicas": 0}});
        cluster::merge(self.client, which, &patch).await
    }

    async fn offer_webhooks(&self, seen: &Seen) -> anyhow::Result<()> {
        let kept = kept(seen)?;
        for (number, configuration) in kept.webhooks.iter().enumerate() {
            if let Some(configuration) = configuration.as_ref().filter(|_| seen.webhooks[number].is_none()) {
                let mut empty = configuration.clone();
                empty["webhooks"] = json!([]);
                empty["metadata"]["annotations"][kruise::WEBHOOK_TEMPLATE] = "[]".into();
                cluster::create(self.client, &empty).await?;
            }
        }
        Ok(())
    }

    async fn start(&self, seen: &Seen) -> anyhow::Result<()> {
        let Some(kruise) = &seen.kruise else {
            bail!("Kruise's Deployment is gone: install the same release of Kruise again, then this goes on");
        };
        let deployment = &kruise.deployment;
        let mut operations = vec![same(deployment)?];
        if kruise.held() {
            let mut arguments = written_arguments(deployment);
            arguments.retain(|argument| argument != kruise::HOLD_ARGUMENT);
            operations.push(add(&arguments_path(deployment), Value::Array(arguments))?);
        }
        if kruise.remembered().is_some() {
            let path = format!("/metadata/annotations/{}", REPLICAS.replace('/', "~1"));
            operations.push(PatchOperation::Remove(RemoveOperation {
                path: path.parse().context("the annotation's name")?,
            }));
        }
        if kruise.replicas() == 0 {
            operations.push(PatchOperation::Replace(ReplaceOperation {
                path: "/spec/replicas".parse().context("a path")?,
                value: kruise.remembered().unwrap_or(FEW).into(),
            }));
        }
        cluster::patch(self.client, self.kruise(), Patch(operations)).await
    }

    /// Kruise's manager makes the webhooks of the annotation by itself, and knows best where it is and who signs for it. Only with
    /// certificates of others it leaves them to whoever installed it.
    async fn restore_webhooks(&self, seen: &Seen) -> anyhow::Result<()> {
        let arguments = seen.kruise.as_ref().map(Manager::arguments).unwrap_or_default();
        let gates = kruise::flag(&arguments, "feature-gates").unwrap_or_default();
        let by_others = Gates::is_on(&gates, "EnableExternalCerts");
        for (configuration, present) in kept(seen)?.webhooks.iter().zip(&seen.webhooks) {
            if let (Some(configuration), Some(present)) = (configuration, present) {
                let annotations = &configuration["metadata"]["annotations"];
                let mut restored = present.clone();
                restored["metadata"]["annotations"] = annotations.clone();
                if by_others || !annotations[kruise::WEBHOOK_TEMPLATE].is_string() {
                    restored["webhooks"] = configuration["webhooks"].clone();
                }
                cluster::replace(self.client, &restored).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, seen: &Seen) -> anyhow::Result<()> {
        for object in kept(seen)?.installed.iter().rev() {
            cluster::delete(self.client, Which::of(object)).await?;
        }
        let lease = in_namespace(
            "coordination.k8s.io/v1",
            "Lease",
            &self.place.namespace,
            kruise::HOLD_LEASE,
        );
        cluster::delete(self.client, lease).await?;
        let kept = in_namespace("v1", "ConfigMap", &self.place.namespace, kept::NAME);
        cluster::delete(self.client, kept).await
    }
}

/// The spec of another one in the place of that of a CRD.
async fn put_spec(client: &Client, crd: &Value, wanted: &Value) -> anyhow::Result<()> {
    let mut crd = crd.clone();
    crd["spec"] = wanted["spec"].clone();
    cluster::replace(client, &crd).await
}

fn kept(seen: &Seen) -> anyhow::Result<&Kept> {
    seen.kept
        .as_ref()
        .with_context(|| format!("there is no ConfigMap {}", kept::NAME))
}

fn arguments_path(deployment: &Value) -> String {
    format!("/spec/template/spec/containers/{}/args", kruise::position(deployment))
}

fn written_arguments(deployment: &Value) -> Vec<Value> {
    let container = &deployment["spec"]["template"]["spec"]["containers"][kruise::position(deployment)];
    container["args"].as_array().cloned().unwrap_or_default()
}

/// The patch holds only for the object that it was decided on.
fn same(object: &Value) -> anyhow::Result<PatchOperation> {
    Ok(PatchOperation::Test(TestOperation {
        path: "/metadata/resourceVersion".parse().context("a path")?,
        value: object["metadata"]["resourceVersion"].clone(),
    }))
}

fn add(path: &str, value: Value) -> anyhow::Result<PatchOperation> {
    Ok(PatchOperation::Add(AddOperation {
        path: path.parse().context("a path")?,
        value,
    }))
}
