//! The beginning of every plan: pods that are its own, and the revision that is wanted.

use afloat_api::{Gates, Status as _, filled, names};
use serde_json::{Value, json};

use crate::action::Action;
use crate::config::stamp::{changes, sentence};
use crate::workload::history::{Found, Revisions, newest};
use crate::workload::kind::Workload;
use crate::workload::memo::Memo;
use crate::workload::observed::{Observed, Plan};
use crate::workload::owner::Owner;
use crate::workload::revision::template;

/// How a plan begins.
pub(crate) enum Begun<S> {
    /// There is nothing more to it.
    Whole(Box<Plan<S>>),
    /// The revision is there.
    At(Box<Revisions>, Memo),
}

/// For a roster that is another's, or from before the selector was another one: the plan on one that is the workload's.
pub(crate) fn with_own_roster<W: Workload>(set: &W, seen: &Observed<'_>) -> Option<Plan<W::Status>> {
    if seen.pods.fits(set.metadata().uid.as_deref(), &set.matcher()) {
        return None;
    }
    let pods = set.roster().with(seen.pods.pods().cloned());
    Some(set.plan(&Observed { pods: &pods, ..*seen }))
}

/// A template with its defaults, as OpenKruise would have it, which looks for it on the way back. None: it has them, or is to be left alone.
pub(crate) fn filled_template(template: &Value, gates: Gates) -> Option<Value> {
    if gates.template_no_defaults {
        None
    } else {
        filled(template)
    }
}

/// A workload that is being deleted keeps its pods until the garbage collector takes them; else it begins with its revision:
/// that of the present template, which `owner` holds, with the hash of the claims that it is wanted with, where the kind notes that. `current` is
/// the one that all pods had last, `reported` the one that was wanted last, by their names.
pub(crate) fn begin<W: Workload>(
    (set, owner): (&W, Owner<'_>),
    claims_hash: Option<String>,
    (current, reported): (&str, &str),
    seen: &Observed<'_>,
) -> Begun<W::Status> {
    let status = set.status();
    let mut plan = Plan {
        status: status.clone(),
        figures: set.figures(),
        ..Plan::default()
    };
    if owner.metadata.deletion_timestamp.is_some() {
        return Begun::Whole(Box::new(plan));
    }
    let collisions = status.collision_count();
    let (found, memo) = seen
        .memo
        .resolve(owner, collisions, (current, reported), seen.revisions);
    match found {
        Found::Known(mut revisions) => {
            if let Some(Action::NumberRevision { number, .. }) = &mut revisions.number {
                number.claims = claims_hash;
            }
            Begun::At(revisions, memo)
        }
        Found::Missing { mut body, collisions } => {
            if let Some(hash) = claims_hash {
                body["metadata"]["annotations"][names::CLAIMS_HASH] = json!(hash);
            }
            plan.news.extend(told_of_configs(owner, seen));
            plan.status.set_collision_count(collisions);
            plan.actions.push(Action::CreateRevision { body });
            Begun::Whole(Box::new(plan))
        }
    }
}

/// What is told where another revision is wanted because ConfigMaps or Secrets hold something else.
pub(super) fn told_of_configs(owner: Owner<'_>, seen: &Observed<'_>) -> Option<(&'static str, String)> {
    let last = newest(seen.revisions).and_then(|revision| template(revision))?;
    Some(("ConfigChanged", sentence(&changes(last, owner.template))?))
}
