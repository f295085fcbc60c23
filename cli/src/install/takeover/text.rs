//! A step in words: what is, what will be, and the lines that do it by hand.

use std::time::Duration;

use afloat_api::{Door, Version};
use afloat_rollout::kinds::KINDS;

use super::kept;
use super::kruise;
use super::marks::{HOLD_SECONDS, REPLICAS};
use super::plan::{Ours, Step};
use super::seen::{Manager, Seen};

/// A step for people.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Words {
    /// What it does.
    pub(super) title: &'static str,
    /// What is seen before it.
    pub(super) is: String,
    /// What will be seen after it.
    pub(super) will_be: String,
    /// Commands that do it.
    pub(super) by_hand: Vec<String>,
}

/// Where a takeover happens.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Namespace of Kruise's manager and of the Lease.
    pub(super) namespace: String,
    /// Deployment of Kruise's manager.
    pub(super) kruise: String,
    /// Namespace of Afloat's operator.
    pub(super) afloat_namespace: String,
    /// Deployment of Afloat's operator.
    pub(super) afloat: String,
    /// Longest wait for one step.
    pub(super) timeout: Duration,
}

/// The step in words.
pub(super) fn words(step: Step, seen: &Seen, place: &Place, ours: &Ours) -> Words {
    let (title, is, will_be, by_hand) = match step {
        Step::Keep | Step::Install | Step::Hold | Step::RemoveWebhooks => forth(step, seen, place, ours),
        Step::Serve | Step::Lead | Step::Store | Step::Stop => over(step, seen, place, ours),
        Step::OfferWebhooks | Step::Start | Step::RestoreWebhooks | Step::StoreAsKruise | Step::Fill => {
            back(step, seen, place, ours)
        }
        Step::StopAfloat | Step::RestoreCrd | Step::LeadKruise | Step::Forget | Step::Remove => home(step, seen, place),
    };
    Words {
        title,
        is,
        will_be,
        by_hand,
    }
}

type Parts = (&'static str, String, String, Vec<String>);

/// The first half of a takeover.
fn forth(step: Step, seen: &Seen, place: &Place, ours: &Ours) -> Parts {
    let (namespace, kruise) = (&place.namespace, &place.kruise);
    match step {
        Step::Keep => (
            "put aside what will be changed",
            "nothing is kept".to_owned(),
            format!(
                "ConfigMap {namespace}/{} has Kruise's CRDs and webhook configurations, and what there was",
                kept::NAME
            ),
            vec![
                format!("kubectl get crd {} -o yaml > kruise-crds.yaml", definitions().join(" ")),
                format!(
                    "kubectl get mutatingwebhookconfiguration/{} validatingwebhookconfiguration/{} -o yaml > kruise-webhooks.yaml",
                    kruise::WEBHOOKS[0].1,
                    kruise::WEBHOOKS[1].1
                ),
            ],
        ),
        Step::Install => (
            "start Afloat's operator",
            manager(seen.afloat.as_ref()),
            format!(
                "Deployment {}/{} is ready and waits for the Lease that Kruise holds",
                place.afloat_namespace, place.afloat
            ),
            vec![
                format!(
                    "afloat install --namespace {} --no-agent --no-crds --feature-gates '{}' | kubectl apply -f -",
                    place.afloat_namespace, ours.gates
                ),
                format!(
                    "kubectl -n {} rollout status deployment/{}",
                    place.afloat_namespace, place.afloat
                ),
            ],
        ),
        Step::Hold => (
            "let Kruise's manager lead nothing, and answer webhooks all the same",
            manager(seen.kruise.as_ref()),
            format!(
                "all of its pods wait for the Lease {}, which nobody gives away",
                kruise::HOLD_LEASE
            ),
            vec![
                format!(
                    "kubectl -n {namespace} create -f - <<< '{{\"apiVersion\":\"coordination.k8s.io/v1\",\"kind\":\"Lease\",\"metadata\":{{\"name\":\"{0}\"}},\"spec\":{{\"holderIdentity\":\"{0}\",\"leaseDurationSeconds\":{1}}}}}'",
                    kruise::HOLD_LEASE,
                    HOLD_SECONDS
                ),
                format!(
                    "kubectl -n {namespace} patch deployment {kruise} --type json -p '[{{\"op\":\"add\",\"path\":\"/spec/template/spec/containers/{}/args/-\",\"value\":\"{}\"}}]'",
                    seen.kruise
                        .as_ref()
                        .map_or(0, |manager| kruise::position(&manager.deployment)),
                    kruise::HOLD_ARGUMENT
                ),
                format!("kubectl -n {namespace} rollout status deployment/{kruise}"),
            ],
        ),
        _ => (
            "remove Kruise's admission webhooks, while they are answered",
            format!("{} webhooks of Kruise are called", seen.webhooks_called()),
            "none is".to_owned(),
            vec![format!(
                "kubectl delete mutatingwebhookconfiguration/{} validatingwebhookconfiguration/{}",
                kruise::WEBHOOKS[0].1,
                kruise::WEBHOOKS[1].1
            )],
        ),
    }
}

/// The second half of a takeover.
fn over(step: Step, seen: &Seen, place: &Place, ours: &Ours) -> Parts {
    let (namespace, kruise) = (&place.namespace, &place.kruise);
    match step {
        Step::Serve => (
            "serve both versions of workloads",
            served(seen),
            "v1alpha1 and v1beta1 are served, converted by Afloat; they are stored as before".to_owned(),
            vec![crds(storage(seen), ours)],
        ),
        Step::Lead => (
            "let Afloat's operator have the Lease",
            format!("the Lease is held by {}", holder(seen)),
            format!(
                "it is held by a pod of {}/{}: within 20 s, as after every end of a leader",
                place.afloat_namespace, place.afloat
            ),
            vec![format!(
                "kubectl -n {namespace} get lease {} -o jsonpath={{.spec.holderIdentity}} -w",
                afloat_api::names::MANAGER_LEASE
            )],
        ),
        Step::Store => (
            "store workloads as v1beta1",
            format!("they are stored as {}", seen.crds.stored().join(" and ")),
            "all are stored as v1beta1, so that v1beta1 needs no webhook; the operator writes each of them once"
                .to_owned(),
            vec![
                crds(Version::V1beta1, ours),
                "kubectl get crd -o custom-columns=NAME:.metadata.name,STORED:.status.storedVersions".to_owned(),
            ],
        ),
        _ => (
            "stop Kruise's manager",
            manager(seen.kruise.as_ref()),
            "it has 0 replicas; its annotation says how many there were".to_owned(),
            vec![
                format!(
                    "kubectl -n {namespace} annotate deployment {kruise} {}={}",
                    REPLICAS,
                    seen.kruise.as_ref().map_or(1, Manager::replicas)
                ),
                format!("kubectl -n {namespace} scale deployment {kruise} --replicas 0"),
            ],
        ),
    }
}

/// The first half of an undoing.
fn back(step: Step, seen: &Seen, place: &Place, ours: &Ours) -> Parts {
    let (namespace, kruise) = (&place.namespace, &place.kruise);
    match step {
        Step::OfferWebhooks => (
            "offer Kruise's manager its webhook configurations, empty",
            "they are kept aside".to_owned(),
            "they are there, without webhooks: its manager does not start without them".to_owned(),
            vec![format!(
                "kubectl create -f kruise-webhooks.yaml, with `webhooks: []` and the annotation {}: '[]'",
                kruise::WEBHOOK_TEMPLATE
            )],
        ),
        Step::Start => (
            "start Kruise's manager as it was",
            manager(seen.kruise.as_ref()),
            "it is ready and waits for the Lease that Afloat holds".to_owned(),
            vec![
                format!(
                    "kubectl -n {namespace} edit deployment {kruise}   # remove the argument {} and the annotation {1}, set replicas to what {1} said",
                    kruise::HOLD_ARGUMENT,
                    REPLICAS
                ),
                format!("kubectl -n {namespace} rollout status deployment/{kruise}"),
            ],
        ),
        Step::RestoreWebhooks => (
            "call Kruise's admission webhooks again",
            format!("{} webhooks of Kruise are called", seen.webhooks_called()),
            "all are that were".to_owned(),
            vec!["kubectl replace -f kruise-webhooks.yaml".to_owned()],
        ),
        Step::Fill => (
            "fill into templates what Kruise's webhook does",
            "pull policies of init containers and kinds of volumes may be missing".to_owned(),
            "none is, so that Kruise finds the revisions that Afloat has made; to Afloat they mean the same".to_owned(),
            vec![format!(
                "kubectl annotate {} -A --all afloat.dev/filled=   # any write does, now that Kruise's webhook is called",
                filled().join(",")
            )],
        ),
        _ => (
            "store as v1alpha1 the workloads of which this Kruise knows no other version",
            format!("they are stored as {}", seen.crds.stored().join(" and ")),
            "they are stored as v1alpha1; the operator writes each of them once".to_owned(),
            vec![
                crds(Version::V1alpha1, ours),
                "kubectl get crd -o custom-columns=NAME:.metadata.name,STORED:.status.storedVersions".to_owned(),
            ],
        ),
    }
}

/// The second half of an undoing.
fn home(step: Step, seen: &Seen, place: &Place) -> Parts {
    let namespace = &place.namespace;
    match step {
        Step::StopAfloat => (
            "stop Afloat's operator",
            manager(seen.afloat.as_ref()),
            "it has 0 replicas and has let go of the Lease".to_owned(),
            vec![format!(
                "kubectl -n {} scale deployment {} --replicas 0",
                place.afloat_namespace, place.afloat
            )],
        ),
        Step::RestoreCrd => (
            "put Kruise's CustomResourceDefinitions back",
            served(seen),
            "the versions are served that were".to_owned(),
            vec!["kubectl replace -f kruise-crds.yaml   # without resourceVersion and uid".to_owned()],
        ),
        Step::LeadKruise => (
            "let Kruise's manager have the Lease",
            format!("the Lease is held by {}", holder(seen)),
            "it is held by a pod of Kruise's manager".to_owned(),
            vec![format!(
                "kubectl -n {namespace} get lease {} -o jsonpath={{.spec.holderIdentity}} -w",
                afloat_api::names::MANAGER_LEASE
            )],
        ),
        Step::Forget => (
            "take Afloat's condition out of the workloads",
            format!("their status has the last {}", afloat_api::names::ROLLOUT),
            "it has what Kruise writes".to_owned(),
            vec![format!(
                "kubectl edit {} --subresource status   # remove the condition",
                definitions().join(",")
            )],
        ),
        _ => (
            "remove what the takeover installed and put aside",
            format!(
                "{} objects are Afloat's and were not there before",
                seen.kept.as_ref().map_or(0, |kept| kept.installed.len())
            ),
            "they are gone; CRDs of afloat.dev and the namespace stay".to_owned(),
            vec![
                format!(
                    "afloat uninstall --namespace {} --no-agent | kubectl delete --ignore-not-found -f -",
                    place.afloat_namespace
                ),
                format!(
                    "kubectl -n {namespace} delete configmap/{} lease/{}",
                    kept::NAME,
                    kruise::HOLD_LEASE
                ),
            ],
        ),
    }
}

fn crds(stored: Version, ours: &Ours) -> String {
    let webhook = match &ours.serving.webhook {
        Some(Door::Url(url)) => format!("--webhook-url {url}"),
        Some(Door::Service { namespace, name }) => format!("--webhook-service {namespace}/{name}"),
        None => "--serve v1beta1".to_owned(),
    };
    let defaults = if ours.serving.template_defaults {
        ""
    } else {
        " --template-no-defaults"
    };
    format!(
        "afloat crds --store {} {webhook}{defaults} | kubectl apply --server-side --force-conflicts -f -",
        stored.name()
    )
}

fn manager(manager: Option<&Manager>) -> String {
    match manager {
        None => "it is not installed".to_owned(),
        Some(manager) => {
            let ready = manager.pods.iter().filter(|pod| pod.ready).count();
            format!("{ready} of {} pods are ready", manager.replicas())
        }
    }
}

fn holder(seen: &Seen) -> &str {
    if seen.holder.is_empty() { "nobody" } else { &seen.holder }
}

fn served(seen: &Seen) -> String {
    let served: Vec<_> = ["v1alpha1", "v1beta1"]
        .into_iter()
        .filter(|name| seen.crds.version(name).0)
        .collect();
    format!(
        "{} {} served",
        served.join(" and "),
        if served.len() == 1 { "is" } else { "are" }
    )
}

fn definitions() -> Vec<String> {
    super::definitions::names().collect()
}

/// Of the kinds whose templates Kruise's webhook fills.
fn filled() -> Vec<String> {
    let filled = KINDS.iter().filter(|names| names.filled);
    filled.map(super::definitions::name).collect()
}

/// The version in which workloads are stored now.
fn storage(seen: &Seen) -> Version {
    if seen.crds.version("v1beta1").1 {
        Version::V1beta1
    } else {
        Version::V1alpha1
    }
}
