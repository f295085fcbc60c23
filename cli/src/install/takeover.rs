//! `afloat takeover`: from OpenKruise's manager to Afloat on a living cluster, and back.
//!
//! Observe, plan, act: [`plan`] says from what is seen which steps are left, [`act`] carries out the first of them, and this goes on
//! until none is left. It must never do a step whose way back was not put aside.

mod act;
mod ask;
mod census;
mod check;
mod cluster;
mod definitions;
mod kept;
mod kruise;
mod marks;
mod options;
mod ours;
mod plan;
mod seen;
mod text;
mod wait;

use anyhow::{Context as _, bail};
use kube::Client;
use tokio::time::Instant;

use crate::options::cluster::config;
use crate::output;
use act::Hands;
use census::Census;
use plan::{Ours, Step};
use seen::Seen;
use text::Place;
use wait::until;

pub(crate) use kruise::flag;
pub(crate) use options::TakeoverOptions;

/// Steps of one run at most: if somebody undoes them all the time this has to end.
const STEPS: usize = 40;

pub(crate) fn run_takeover(options: &TakeoverOptions) -> anyhow::Result<i32> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let config = config(options.kubeconfig.as_deref(), options.context.as_deref()).await?;
        let client = Client::try_from(config)?;
        let place = ours::place(options);
        let seen = ask::seen(&client, &place).await?;
        let ours = ours::ours(options, &seen)?;
        let steps = left(options.undo, &seen, &ours);
        if !find(options, &client, &place, &seen, &ours).await? {
            return Ok(1);
        }
        if steps.is_empty() {
            output::print(if options.undo {
                "Nothing to undo: no takeover has left anything behind.\n"
            } else {
                "Afloat has the workloads: nothing to do.\n"
            })?;
            return Ok(0);
        }
        if !options.yes {
            output::print(&listing(&steps, &seen, &place, &ours))?;
            let undo = if options.undo { " --undo" } else { "" };
            output::print(&format!(
                "\nNothing was changed. To do it: afloat takeover{undo} --yes\n"
            ))?;
            return Ok(0);
        }
        let before = ask::census(&client).await?;
        let hands = Hands {
            client: &client,
            place: &place,
            ours: &ours,
        };
        carry_out(options.undo, &hands).await?;
        let kept = ask::seen(&client, &place).await?.kept;
        let before = kept.and_then(|kept| kept.before).unwrap_or(before);
        verify(options.undo, &hands, &before).await
    })
}

fn left(undo: bool, seen: &Seen, ours: &Ours) -> Vec<Step> {
    if undo {
        plan::undo(seen)
    } else {
        plan::takeover(seen, ours)
    }
}

/// Says what stands in the way and what to know; false if something stands in the way. Going back is never refused.
async fn find(
    options: &TakeoverOptions,
    client: &Client,
    place: &Place,
    seen: &Seen,
    ours: &Ours,
) -> anyhow::Result<bool> {
    if options.undo {
        return Ok(true);
    }
    let around = ask::surroundings(client).await?;
    let findings = check::check(seen, &around, &place.namespace, ours, &options.despite);
    let version = seen.kruise.as_ref().map_or("none", |kruise| kruise.image());
    output::print(&format!(
        "Kubernetes {}; Kruise's manager: {version}; now {}\n",
        around.kubernetes,
        seen.standing()
    ))?;
    for warning in &findings.warnings {
        output::print(&format!("to know: {warning}\n"))?;
    }
    for stop in &findings.stops {
        output::print(&format!("in the way: {stop}\n"))?;
    }
    Ok(findings.stops.is_empty())
}

/// The steps, for people.
fn listing(steps: &[Step], seen: &Seen, place: &Place, ours: &Ours) -> String {
    let mut listing = String::new();
    for (number, step) in steps.iter().enumerate() {
        let words = text::words(*step, seen, place, ours);
        listing.push_str(&format!(
            "\n{}. {}\n   is:      {}\n   will be: {}\n",
            number + 1,
            words.title,
            words.is,
            words.will_be
        ));
        for line in words.by_hand {
            listing.push_str(&format!("   by hand: {line}\n"));
        }
    }
    listing
}

/// Does what is left, step by step.
async fn carry_out(undo: bool, hands: &Hands<'_>) -> anyhow::Result<()> {
    for _ in 0..STEPS {
        let seen = ask::seen(hands.client, hands.place).await?;
        let Some(step) = left(undo, &seen, hands.ours).first().copied() else {
            return Ok(());
        };
        let words = text::words(step, &seen, hands.place, hands.ours);
        let started = Instant::now();
        let done = async {
            hands.perform(step, &seen).await?;
            let seen = async || {
                let seen = ask::seen(hands.client, hands.place).await?;
                if left(undo, &seen, hands.ours).contains(&step) {
                    bail!("still: {}", text::words(step, &seen, hands.place, hands.ours).is);
                }
                Ok(())
            };
            until(hands.place.timeout, seen).await
        };
        if let Err(error) = done.await {
            let now = ask::seen(hands.client, hands.place).await;
            let standing = now.map_or_else(|error| format!("unknown ({error:#})"), |seen| seen.standing());
            let back = if undo {
                ""
            } else {
                "; to go back: afloat takeover --undo --yes"
            };
            return Err(error.context(format!(
                "could not {}. The state is: {standing}. Run the same command again to go on{back}",
                words.title
            )));
        }
        let seconds = started.elapsed().as_secs_f64();
        output::print(&format!("done: {} ({seconds:.1} s): {}\n", words.title, words.will_be))?;
    }
    bail!(
        "somebody undoes what this does: suspend whatever keeps Kruise's objects as they are (GitOps), and run it again"
    )
}

/// Whether nothing happened to any pod that its workload did not ask for.
async fn verify(undo: bool, hands: &Hands<'_>, before: &Census) -> anyhow::Result<i32> {
    let looked_at = async || {
        let comparison = ask::census(hands.client).await?.since(before);
        if let Some(first) = comparison.unobserved.first() {
            bail!(
                "{} workloads were not looked at yet, {first} among them",
                comparison.unobserved.len()
            );
        }
        Ok(comparison)
    };
    let comparison = until(hands.place.timeout, looked_at).await;
    let comparison = comparison.context("the new leader does not look at all workloads")?;
    for wrong in &comparison.wrong {
        output::print(&format!("changed: {wrong}\n"))?;
    }
    let (who, way) = if undo {
        ("Kruise", "")
    } else {
        ("Afloat", " To go back: afloat takeover --undo --yes")
    };
    output::print(&format!(
        "{who} has the workloads. {} of them, with {} pods, were at rest before: {}.{way}\n",
        comparison.compared,
        comparison.pods,
        if comparison.wrong.is_empty() {
            "no pod was replaced, no container restarted, no revision made"
        } else {
            "what changed is above"
        }
    ))?;
    Ok(i32::from(!comparison.wrong.is_empty()))
}
