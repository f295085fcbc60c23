//! PodUnavailableBudgets: their status, which there may be ([`written`]), what they and PodDisruptionBudgets leave to the planners, and the answer to whoever wants a pod
//! to go. What is counted and decided is `afloat-disruption`'s.
//!
//! A budget has several writers: the loop that counts ([`status`]), the webhook ([`admit`], at every instance), and rounds that are about to
//! take pods out of service ([`claim`]). Each decides on one version of the budget and writes that version's successor, or decides anew.

pub(crate) mod admit;
mod claim;
mod guards;
mod kept;
mod scale;
mod state;
mod status;
pub(crate) mod written;

use std::sync::Arc;

use afloat_api::PodUnavailableBudget;
use afloat_watching::feed::Pauses;
use k8s_openapi::Resource as _;
use kube::Api;
use kube::runtime::watcher;
use tokio_util::sync::CancellationToken;

pub(crate) use self::state::Disruption;
use crate::follow::appears_as;
use crate::follow::scope::scoped;

/// Follows budgets, once there is such a kind, and keeps their status, until `shutdown`.
pub(crate) async fn run(disruption: Arc<Disruption>, shutdown: CancellationToken) {
    type Budget = PodUnavailableBudget;
    let kind = (Budget::GROUP, Budget::API_VERSION, Budget::KIND);
    if !appears_as(&disruption.client, kind, &shutdown).await {
        return;
    }
    let api: Api<Budget> = scoped(&disruption.client, disruption.namespace.as_deref());
    let config = watcher::Config::default();
    let feed = disruption
        .budgets
        .clone()
        .feed(api, config, Pauses::Patient, shutdown.clone());
    let work = async {
        disruption.budgets.ready().await;
        disruption.first().await;
        let pods = scoped(&disruption.client, disruption.namespace.as_deref());
        let feed = disruption
            .pods
            .clone()
            .feed(pods, watcher::Config::default(), Pauses::Patient, shutdown.clone());
        let count = async {
            disruption.pods.ready().await;
            status::work(&disruption, &shutdown).await;
        };
        tokio::join!(feed, count);
    };
    let both = async { tokio::join!(feed, work) };
    let _ = shutdown.run_until_cancelled(both).await;
}
