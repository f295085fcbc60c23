//! Carries out one rollout while its fault strikes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use afloat_api::CloneSet;
use anyhow::Context as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use tokio::time::{Instant, sleep, timeout};

use super::faults::{Blow, Faults, Part, Reach};
use super::manifest;
use super::plan::{Fault, Round};
use super::report::RoundReport;
use crate::load::Load;

/// How long a rollout may take.
const ROUND_LIMIT: Duration = Duration::from_secs(600);
/// How often it is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// What rollouts happen to.
pub(super) struct World {
    pub(super) faults: Arc<Faults>,
    /// These see the API server whatever its faults are.
    pub(super) sets: Api<CloneSet>,
    pub(super) pods: Api<Pod>,
    pub(super) replicas: u32,
    /// How long what is taken away is away.
    pub(super) outage: Duration,
}

/// Restarts of the pods' containers, by the pods' uids.
type Restarts = BTreeMap<String, i64>;

impl World {
    /// Rolls out, and tells what happened.
    pub(super) async fn play(&self, round: Round, image: &str, load: &Load) -> anyhow::Result<RoundReport> {
        let operator = self.part("operator")?;
        let (begin, started) = (Timestamp::now(), Instant::now());
        let (before, kills) = (self.restarts().await?, operator.kills());
        let counts = load.counts();
        match round.fault {
            Fault::OperatorAfterWrite => operator.set_blow(Some(Blow::After(1))),
            Fault::OperatorBeforeWrite => operator.set_blow(Some(Blow::Before(2))),
            _ => {}
        }
        // From here on nothing returns early but an error, which ends the whole run.
        let rollout = async {
            for (patch, pods) in manifest::steps(round.motion, self.replicas, image) {
                let patch: json_patch::Patch = serde_json::from_value(patch)?;
                self.sets
                    .patch("web", &PatchParams::default(), &Patch::<()>::Json(patch))
                    .await?;
                self.done(pods).await?;
            }
            anyhow::Ok(())
        };
        tokio::try_join!(rollout, self.strike(round, &operator))?;
        operator.set_blow(None);
        // What was brought back at the very end has its say, too.
        self.done(self.replicas).await?;
        let after = self.restarts().await?;
        Ok(RoundReport {
            motion: round.motion,
            fault: round.fault,
            begin,
            end: Timestamp::now(),
            seconds: started.elapsed().as_secs_f64(),
            requests: load
                .counts()
                .iter()
                .zip(&counts)
                .map(|(now, then)| now.sent - then.sent)
                .collect(),
            lost: Vec::new(),
            restarted: restarted(&before, &after),
            replaced: after.keys().filter(|uid| !before.contains_key(*uid)).count(),
            operator_kills: operator.kills() - kills,
        })
    }

    /// Until all of so many pods are as the CloneSet wants them, in service, and nothing else is there.
    pub(super) async fn done(&self, pods: u32) -> anyhow::Result<()> {
        let wait = async {
            loop {
                let set = self.sets.get("web").await?;
                if is_done(&set, i64::from(pods))
                    && self.pods.list(&ListParams::default()).await?.items.len() == pods as usize
                {
                    return anyhow::Ok(());
                }
                sleep(INTERVAL).await;
            }
        };
        match timeout(ROUND_LIMIT, wait).await {
            Ok(result) => result,
            Err(_) => {
                let set = self.sets.get("web").await?;
                let said: Vec<String> = set.status.conditions.iter().map(|c| c.message.clone()).collect();
                anyhow::bail!(
                    "a rollout was not done after {} s: {}",
                    ROUND_LIMIT.as_secs(),
                    said.join("; ")
                )
            }
        }
    }

    async fn strike(&self, round: Round, operator: &Part) -> anyhow::Result<()> {
        let mut writes = operator.writes();
        let goal = *writes.borrow() + round.at_write;
        let moment = async {
            // The cluster holds the sender.
            let _ = writes.wait_for(|writes| *writes >= goal).await;
        };
        let name = |part: &str| format!("{part} of node-{}", round.node + 1);
        match round.fault {
            Fault::None | Fault::OperatorAfterWrite | Fault::OperatorBeforeWrite => return Ok(()),
            Fault::Reporter | Fault::Agent => {
                let part = self.part(&name(if round.fault == Fault::Agent {
                    "node agent"
                } else {
                    "reporter"
                }))?;
                moment.await;
                part.kill();
                sleep(self.outage).await;
                part.revive();
            }
            Fault::ApiRefuses | Fault::ApiSilent => {
                moment.await;
                self.faults.set_reach(if round.fault == Fault::ApiRefuses {
                    Reach::Refused
                } else {
                    Reach::Silent
                });
                sleep(self.outage).await;
                self.faults.set_reach(Reach::Up);
            }
        }
        Ok(())
    }

    fn part(&self, name: &str) -> anyhow::Result<Arc<Part>> {
        self.faults
            .part(name)
            .with_context(|| format!("the cluster has no {name}"))
    }

    async fn restarts(&self) -> anyhow::Result<Restarts> {
        let pods = self.pods.list(&ListParams::default()).await?.items;
        Ok(pods
            .into_iter()
            .map(|pod| {
                let statuses = pod.status.and_then(|s| s.container_statuses).unwrap_or_default();
                let restarts = statuses.iter().map(|c| i64::from(c.restart_count)).sum();
                (pod.metadata.uid.unwrap_or_default(), restarts)
            })
            .collect())
    }
}

/// Restarts between two moments; those of new pods count, too.
fn restarted(before: &Restarts, after: &Restarts) -> i64 {
    let since = |(uid, count): (&String, &i64)| count - before.get(uid).copied().unwrap_or(0);
    after.iter().map(since).sum()
}

fn is_done(set: &CloneSet, pods: i64) -> bool {
    let status = &set.status;
    Some(status.observed_generation) == set.metadata.generation
        && status.update_revision == status.current_revision
        && [
            status.replicas,
            status.updated_replicas,
            status.available_replicas,
            status.updated_available_replicas,
        ]
        .iter()
        .all(|count| i64::from(*count) == pods)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_of_kept_and_new_pods() {
        let of = |list: &[(&str, i64)]| {
            list.iter()
                .map(|(uid, n)| ((*uid).to_owned(), *n))
                .collect::<Restarts>()
        };
        let before = of(&[("a", 1), ("b", 0), ("c", 5)]);
        assert_eq!(restarted(&before, &of(&[("a", 2), ("b", 0), ("d", 0)])), 1);
        assert_eq!(restarted(&before, &of(&[("d", 2)])), 2);
    }
}
