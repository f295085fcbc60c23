//! Leader election by a Lease, with client-go's rules: a lease counts from when its last change was *seen*, so clocks
//! need not agree.

use std::time::Duration;

use afloat_api::names;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, Error};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Which Lease to hold, and how.
#[derive(Clone, Debug)]
pub struct LeaderElection {
    /// Its namespace.
    pub namespace: String,
    /// Its name. OpenKruise's own by default, so that only one of the two acts.
    pub name: String,
    /// Who we are; must be unique.
    pub identity: String,
    /// How long others wait for a silent leader.
    pub duration: Duration,
    /// How long a leader tries to renew before it stops.
    pub renew_deadline: Duration,
    /// Pause between two tries.
    pub retry: Duration,
}

impl LeaderElection {
    /// OpenKruise's Lease with its 15, 10 and 2 seconds.
    pub fn new(identity: impl Into<String>) -> Self {
        Self {
            namespace: names::MANAGER_NAMESPACE.into(),
            name: names::MANAGER_LEASE.into(),
            identity: identity.into(),
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Held leadership.
pub(crate) struct Leadership {
    api: Api<Lease>,
    election: LeaderElection,
}

/// Waits until we lead; None if `shutdown` comes first.
pub(crate) async fn acquire(
    client: &Client,
    election: &LeaderElection,
    shutdown: &CancellationToken,
) -> Option<Leadership> {
    let leadership = Leadership {
        api: Api::namespaced(client.clone(), &election.namespace),
        election: election.clone(),
    };
    let mut seen: Option<(String, Instant)> = None;
    loop {
        match leadership.try_hold(&mut seen).await {
            Ok(true) => return Some(leadership),
            Ok(false) => {}
            Err(error) => tracing::warn!(lease = election.name, %error, "cannot take the lease, trying again"),
        }
        tokio::select! {
            () = sleep(election.retry) => {}
            () = shutdown.cancelled() => return None,
        }
    }
}

impl Leadership {
    /// Renews until `shutdown` (then true) or until it is lost (then false).
    pub(crate) async fn keep(&self, shutdown: &CancellationToken) -> bool {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = sleep(self.election.retry) => {}
                () = shutdown.cancelled() => return true,
            }
            let limit = self.election.renew_deadline.saturating_sub(renewed.elapsed());
            match tokio::time::timeout(limit, self.try_hold(&mut None)).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return false,
                Ok(Err(error)) => tracing::warn!(%error, "cannot renew the lease"),
                Err(_) => {}
            }
            if renewed.elapsed() >= self.election.renew_deadline {
                return false;
            }
        }
    }

    /// Lets go, so that the next leader need not wait.
    pub(crate) async fn release(&self) {
        let Ok(mut lease) = self.api.get(&self.election.name).await else {
            return;
        };
        if let Some(spec) = lease
            .spec
            .as_mut()
            .filter(|spec| spec.holder_identity.as_ref() == Some(&self.election.identity))
        {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            if let Err(error) = self
                .api
                .replace(&self.election.name, &PostParams::default(), &lease)
                .await
            {
                tracing::debug!(%error, "lease not released");
            }
        }
    }

    /// On a cluster that OpenKruise was never on, its namespace is missing. If we may not create it either, the log says
    /// so and an administrator can.
    async fn create_namespace(&self) {
        let metadata = ObjectMeta {
            name: Some(self.election.namespace.clone()),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        let api = Api::<Namespace>::all(self.api.clone().into_client());
        if let Err(error) = api.create(&PostParams::default(), &namespace).await {
            tracing::warn!(namespace = self.election.namespace, %error, "cannot create the lease's namespace");
        }
    }

    /// Takes or renews the lease if it is free, ours, or has not changed for its duration.
    async fn try_hold(&self, seen: &mut Option<(String, Instant)>) -> Result<bool, Error> {
        let now = MicroTime(Timestamp::now());
        let ours = &self.election.identity;
        let spec = |old: Option<&LeaseSpec>| {
            let same = old.is_some_and(|old| old.holder_identity.as_ref() == Some(ours));
            let transitions = old.and_then(|old| old.lease_transitions).unwrap_or(0);
            LeaseSpec {
                holder_identity: Some(ours.clone()),
                lease_duration_seconds: i32::try_from(self.election.duration.as_secs()).ok(),
                acquire_time: if same {
                    old.and_then(|old| old.acquire_time.clone())
                } else {
                    Some(now.clone())
                },
                renew_time: Some(now.clone()),
                lease_transitions: Some(if same || old.is_none() {
                    transitions
                } else {
                    transitions.saturating_add(1)
                }),
                ..LeaseSpec::default()
            }
        };
        let Some(mut lease) = self.api.get_opt(&self.election.name).await? else {
            let metadata = ObjectMeta {
                name: Some(self.election.name.clone()),
                ..ObjectMeta::default()
            };
            let lease = Lease {
                metadata,
                spec: Some(spec(None)),
            };
            let created = self.api.create(&PostParams::default(), &lease).await;
            if matches!(&created, Err(Error::Api(status)) if status.code == 404) {
                self.create_namespace().await;
            }
            return won(created);
        };
        let old = lease.spec.clone().unwrap_or_default();
        let holder = old.holder_identity.clone().unwrap_or_default();
        if !holder.is_empty() && &holder != ours {
            let version = lease.metadata.resource_version.clone().unwrap_or_default();
            let since = match seen {
                Some((last, since)) if *last == version => *since,
                _ => {
                    let now = Instant::now();
                    *seen = Some((version, now));
                    now
                }
            };
            let duration = u64::try_from(old.lease_duration_seconds.unwrap_or(15)).unwrap_or(15);
            if since.elapsed() < Duration::from_secs(duration) {
                return Ok(false);
            }
        }
        lease.spec = Some(spec(Some(&old)));
        won(self
            .api
            .replace(&self.election.name, &PostParams::default(), &lease)
            .await)
    }
}

/// A conflict means that somebody else was faster.
fn won(result: kube::Result<Lease>) -> Result<bool, Error> {
    match result {
        Ok(_) => Ok(true),
        Err(Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
