//! What a kind of workload is to everybody who looks after workloads without regard to their kind.

use std::fmt::Debug;

use afloat_api::{Figures, Matcher, Status, names};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::observed::{Observed, Plan};
use super::owner::Owner;
use super::roster::Roster;
use crate::pod::label::Naming;

/// The object of a kind whose pods are looked after here.
pub trait Workload:
    Resource<Scope = NamespaceResourceScope>
    + Metadata<Ty = ObjectMeta>
    + Clone
    + Debug
    + Default
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
    /// What it reports.
    type Status: Status;

    /// What it reported last.
    fn status(&self) -> &Self::Status;

    /// What its pods are made from.
    fn template(&self) -> &Value;

    /// The same, with another template.
    #[must_use]
    fn with_template(&self, template: Value) -> Self;

    /// The pods that it selects.
    fn matcher(&self) -> Matcher;

    /// Its pods in numbers, as its status tells of them.
    fn figures(&self) -> Figures;

    /// How its pods name their revision.
    fn naming(&self) -> Naming;

    /// What to do next.
    fn plan(&self, seen: &Observed<'_>) -> Plan<Self::Status>;

    /// The nodes that a plan looks at: an image may have to be there before a pod leaves.
    fn sights(&self) -> Sights {
        if self.requires_images() {
            Sights::OfPods
        } else {
            Sights::OutOfService
        }
    }

    /// Whether no pod may leave its Services before its node has the images that are wanted: jobs pull them beforehand.
    fn requires_images(&self) -> bool {
        let annotations = self.metadata().annotations.as_ref();
        annotations
            .and_then(|all| all.get(names::PREWARM))
            .is_some_and(|mode| mode == names::PREWARM_REQUIRED)
    }

    /// It as the owner of its pods.
    fn owner(&self) -> Owner<'_> {
        Owner {
            api_version: Self::API_VERSION,
            kind: Self::KIND,
            naming: self.naming(),
            metadata: self.metadata(),
            template: self.template(),
            requires_images: self.requires_images(),
        }
    }

    /// A roster for its pods, without pods.
    fn roster(&self) -> Roster {
        Roster::new(self.metadata().uid.as_deref(), self.matcher())
    }
}

/// Which nodes a plan looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sights {
    /// Those of pods that are out of service.
    OutOfService,
    /// Those of all its pods.
    OfPods,
    /// All that there are.
    All,
}
