//! A world that does what each step asks for, in the small steps in which a cluster does it. In every state somebody answers the
//! webhooks that are called, and no two lead; from every state a takeover goes on to its end, and back to the beginning.

use afloat_api::Door;
use serde_json::json;

use super::super::definitions::{Definitions, names, storage};
use super::super::kept::{Kept, bare};
use super::super::marks::REPLICAS;
use super::super::seen::{Manager, Pod};
use super::*;

const AUTHORITY: &str = "Y2E=";

fn deployment(replicas: i64, arguments: &[&str]) -> Value {
    json!({
        "metadata": {"generation": 1, "annotations": {}},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "manager", "args": arguments}]}}},
        "status": {"observedGeneration": 1, "updatedReplicas": replicas, "readyReplicas": replicas},
    })
}

fn pod(identity: &str, held: bool) -> Pod {
    Pod {
        identity: identity.to_owned(),
        held,
        ready: true,
    }
}

fn kruise_crd(main_line: bool) -> Value {
    let service =
        json!({"service": {"namespace": "kruise-system", "name": "kruise-webhook-service", "path": "/convert"}});
    let old = json!({"name": "v1alpha1", "served": true, "storage": !main_line});
    let (versions, conversion) = if main_line {
        let new = json!({"name": "v1beta1", "served": true, "storage": true});
        (
            json!([old, new]),
            json!({"strategy": "Webhook", "webhook": {"clientConfig": service}}),
        )
    } else {
        (json!([old]), json!({"strategy": "None"}))
    };
    let stored = if main_line {
        json!(["v1alpha1", "v1beta1"])
    } else {
        json!(["v1alpha1"])
    };
    json!({"spec": {"versions": versions, "conversion": conversion}, "status": {"storedVersions": stored}})
}

/// The same for each kind.
fn all(crd: &Value) -> Definitions {
    Definitions(names().map(|name| (name, crd.clone())).collect())
}

/// One of them.
fn one(seen: &Seen) -> &Value {
    seen.crds.0.values().next().unwrap()
}

fn ours() -> Ours {
    let door = Door::Service {
        namespace: "afloat-system".to_owned(),
        name: "afloat-webhook".to_owned(),
    };
    Ours {
        serving: Serving {
            webhook: Some(door),
            ..Serving::default()
        },
        objects: Vec::new(),
        gates: String::new(),
    }
}

/// A cluster on which Kruise does its work.
fn before(main_line: bool) -> Seen {
    let webhooks =
        |name| Some(json!({"metadata": {"annotations": {"template": "[..]"}}, "webhooks": [{"name": name}]}));
    Seen {
        kruise: Some(Manager {
            deployment: deployment(2, &["--v=4"]),
            pods: vec![pod("kruise-a", false), pod("kruise-b", false)],
        }),
        holder: "kruise-a_1".to_owned(),
        webhooks: [webhooks("mcloneset.kb.io"), webhooks("vcloneset.kb.io")],
        crds: all(&kruise_crd(main_line)),
        ..Seen::default()
    }
}

/// Goes on to the next state by a change.
type Next<'a> = dyn FnMut(&dyn Fn(&mut Seen)) + 'a;

/// The states that a step leads through, the last one being its end.
fn perform(step: Step, seen: &Seen) -> Vec<Seen> {
    let mut states = vec![seen.clone()];
    let mut next = |change: &dyn Fn(&mut Seen)| {
        let mut state = states.last().unwrap().clone();
        change(&mut state);
        states.push(state);
    };
    match step {
        Step::Keep => next(&keep),
        Step::Install => install(&mut next),
        Step::Hold => {
            next(&|seen| seen.hold_lease = true);
            next(&|seen| kruise(seen).deployment = deployment(2, &["--v=4", kruise::HOLD_ARGUMENT]));
            for _ in 0..4 {
                next(&|seen| roll(kruise(seen), true));
            }
        }
        Step::RemoveWebhooks => {
            next(&|seen| seen.webhooks[0] = None);
            next(&|seen| seen.webhooks[1] = None);
        }
        Step::Serve => next(&|seen| put_crd(seen, storage(one(seen)))),
        Step::Store => put_and_write(&mut next, Version::V1beta1),
        Step::StoreAsKruise => put_and_write(&mut next, Version::V1alpha1),
        Step::Lead => next(&|seen| seen.holder = "afloat-a_7".to_owned()),
        Step::Stop => stop(&mut next, kruise),
        Step::StopAfloat => {
            stop(&mut next, |seen| seen.afloat.as_mut().unwrap());
            next(&|seen| seen.holder = String::new());
        }
        Step::OfferWebhooks => offer_webhooks(&mut next),
        Step::Start => {
            next(&|seen| {
                kruise(seen).deployment = deployment(2, &["--v=4"]);
            });
            for _ in 0..4 {
                next(&|seen| roll(kruise(seen), false));
            }
        }
        Step::RestoreWebhooks => {
            for number in 0..2 {
                next(&|seen| seen.webhooks[number] = seen.kept.as_ref().unwrap().webhooks[number].clone());
            }
        }
        Step::RestoreCrd => next(&restore_crd),
        Step::LeadKruise => next(&|seen| seen.holder = format!("{}_2", kruise(seen).pods[0].identity)),
        Step::Fill => next(&|seen| seen.unfilled = Some(false)),
        Step::Forget => next(&|seen| seen.told = Some(false)),
        Step::Remove => {
            next(&|seen| seen.afloat = None);
            next(&|seen| (seen.hold_lease, seen.kept) = (false, None));
        }
    }
    states
}

fn keep(seen: &mut Seen) {
    seen.kept = Some(Kept {
        webhooks: seen.webhooks.clone().map(|webhooks| webhooks.as_ref().map(bare)),
        crds: all(&bare(one(seen))),
        ..Kept::default()
    });
}

fn install(next: &mut Next<'_>) {
    next(&|seen| {
        let (deployment, pods) = (deployment(1, &[]), Vec::new());
        seen.afloat = Some(Manager { deployment, pods });
    });
    next(&|seen| seen.afloat.as_mut().unwrap().pods.push(pod("afloat-a", false)));
    next(&|seen| seen.authority = Some(AUTHORITY.to_owned()));
}

fn offer_webhooks(next: &mut Next<'_>) {
    for number in 0..2 {
        next(&|seen| {
            let empty = json!({"metadata": {"annotations": {"template": "[]"}}, "webhooks": []});
            seen.webhooks[number].get_or_insert(empty);
        });
    }
}

fn restore_crd(seen: &mut Seen) {
    let stored = one(seen)["status"].clone();
    let mut crd = seen.kept.as_ref().unwrap().crds.0.values().next().unwrap().clone();
    for name in stored["storedVersions"].as_array().unwrap() {
        let mut versions = crd["spec"]["versions"].as_array().unwrap().iter();
        assert!(
            versions.any(|version| version["name"] == *name),
            "the API server refuses a CRD without a version in which objects are stored"
        );
    }
    crd["status"] = stored;
    seen.crds = all(&crd);
}

/// One pod more at most, and none less than two.
fn roll(manager: &mut Manager, held: bool) {
    let old = manager.pods.iter().position(|pod| pod.held != held);
    if manager.pods.len() <= 2 && manager.pods.iter().filter(|pod| pod.held == held).count() < 2 {
        let number = manager
            .pods
            .iter()
            .filter_map(|pod| pod.identity.split('-').nth(1)?.parse::<u32>().ok())
            .max();
        manager
            .pods
            .push(pod(&format!("kruise-{}", number.unwrap_or(0) + 1), held));
    } else if let Some(old) = old {
        manager.pods.remove(old);
    }
}

fn kruise(seen: &mut Seen) -> &mut Manager {
    seen.kruise.as_mut().unwrap()
}

fn put_crd(seen: &mut Seen, version: Version) {
    let stored = version.name();
    let mut versions: Vec<String> = seen.crds.stored().into_iter().map(str::to_owned).collect();
    if !versions.iter().any(|name| name == stored) {
        versions.push(stored.to_owned());
    }
    for (name, crd) in &mut seen.crds.0 {
        *crd = ours().crd(name, version, Some(AUTHORITY));
        crd["status"]["storedVersions"] = json!(versions);
    }
}

/// The leader writes all objects anew, and then says so.
fn put_and_write(next: &mut Next<'_>, stored: Version) {
    next(&|seen| put_crd(seen, stored));
    next(&|seen| {
        assert!(seen.afloat_leads(), "nobody writes the objects anew");
        for crd in seen.crds.0.values_mut() {
            crd["status"]["storedVersions"] = json!([stored.name()]);
        }
    });
}

fn stop(next: &mut Next<'_>, manager: fn(&mut Seen) -> &mut Manager) {
    next(&|seen| {
        let deployment = &mut manager(seen).deployment;
        deployment["metadata"]["annotations"][REPLICAS] = deployment["spec"]["replicas"].to_string().into();
        deployment["spec"]["replicas"] = json!(0);
    });
    next(&|seen| manager(seen).pods.clear());
}

/// What must be so at every moment.
fn served(seen: &Seen, why: &str) {
    let kruise = seen.kruise.as_ref().unwrap();
    let answers = kruise.pods.iter().any(|pod| pod.ready);
    assert!(
        answers || seen.webhooks_called() == 0,
        "webhooks are called and nobody answers, {why}"
    );
    let kruise_may_lead = kruise.pods.iter().any(|pod| !pod.held);
    assert!(!(seen.kruise_leads() && seen.afloat_leads()), "two lead, {why}");
    let client = &one(seen)["spec"]["conversion"]["webhook"]["clientConfig"]["service"]["name"];
    if client == "afloat-webhook" && seen.crds.stored() != ["v1alpha1"] && seen.crds.version("v1alpha1").1 {
        let converts = seen.afloat.as_ref().is_some_and(|afloat| !afloat.pods.is_empty());
        assert!(converts, "objects are stored in a version that nobody converts, {why}");
    }
    let converts = client != "kruise-webhook-service" || !kruise.pods.is_empty();
    assert!(converts, "v1alpha1 is served and nobody converts it, {why}");
    let leads = seen.kruise_leads() || seen.afloat_leads();
    let waits = kruise_may_lead || seen.afloat.as_ref().is_some_and(|afloat| !afloat.pods.is_empty());
    assert!(leads || waits, "nobody leads and nobody waits for the Lease, {why}");
}

/// Goes on to the end; gives every state on the way.
fn walk(mut seen: Seen, next: &dyn Fn(&Seen) -> Vec<Step>, why: &str) -> Vec<Seen> {
    let mut all = vec![seen.clone()];
    for _ in 0..20 {
        let Some(step) = next(&seen).first().copied() else {
            return all;
        };
        for state in perform(step, &seen) {
            served(&state, &format!("{step:?}, {why}"));
            all.push(state);
        }
        seen = all.last().unwrap().clone();
        assert!(!next(&seen).contains(&step), "{step:?} is not over, {why}");
    }
    panic!("no end: {:?}, {why}", next(&seen));
}

#[test]
fn there_and_back_from_every_moment() {
    for main_line in [false, true] {
        let forth = |seen: &Seen| takeover(seen, &ours());
        let back = |seen: &Seen| undo(seen);
        let states = walk(before(main_line), &forth, "forth");
        let end = states.last().unwrap();
        assert!(end.afloat_leads() && end.kruise.as_ref().unwrap().stopped() && end.webhooks_called() == 0);
        assert_eq!(end.crds.stored(), ["v1beta1"]);
        for (number, state) in states.iter().enumerate() {
            // Killed here, and started again.
            let again = walk(state.clone(), &forth, &format!("again from {number}"));
            assert_eq!(again.last().unwrap().standing(), end.standing());
            let back_again = walk(state.clone(), &back, &format!("back from {number}"));
            for (number_back, state) in back_again.iter().enumerate().filter(|_| state.kept.is_some()) {
                walk(state.clone(), &back, &format!("back from {number} and {number_back}"));
            }
            let home = back_again.last().unwrap();
            assert_eq!(home.webhooks, before(main_line).webhooks, "back from {number}");
            assert!(home.kruise_leads() && home.kept.is_none(), "back from {number}");
            assert!(same_versions(one(home), &kruise_crd(main_line)), "back from {number}");
        }
    }
}

#[test]
fn the_order() {
    let mut seen = before(false);
    assert_eq!(
        takeover(&seen, &ours()),
        [
            Step::Keep,
            Step::Install,
            Step::Hold,
            Step::RemoveWebhooks,
            Step::Serve,
            Step::Lead,
            Step::Store,
            Step::Stop
        ]
    );
    assert_eq!(undo(&seen), [], "nothing was begun");
    seen = walk(seen, &|seen| takeover(seen, &ours()), "").pop().unwrap();
    assert_eq!(
        undo(&seen),
        [
            Step::OfferWebhooks,
            Step::Start,
            Step::RestoreWebhooks,
            Step::StoreAsKruise,
            Step::Fill,
            Step::StopAfloat,
            Step::RestoreCrd,
            Step::LeadKruise,
            Step::Forget,
            Step::Remove
        ]
    );
}

#[test]
fn kruise_leaves_a_conversion_alone_that_it_does_not_know() {
    let crd = ours().crd("clonesets.apps.kruise.io", Version::V1alpha1, Some(AUTHORITY));
    assert_eq!(crd["spec"]["versions"][0]["name"], "v1beta1");
    assert_eq!(crd["spec"]["versions"][0]["storage"], false);
    assert_eq!(crd["spec"]["versions"][1]["storage"], true);
    assert_eq!(
        crd["spec"]["conversion"]["webhook"]["clientConfig"]["caBundle"],
        AUTHORITY
    );
}
