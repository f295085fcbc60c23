//! What to know before a takeover begins: what stands in its way, and what will be otherwise.

use std::collections::BTreeMap;

use super::definitions;
use super::kruise;
use super::plan::{Ours, same_conversion};
use super::seen::Seen;

/// More that is seen of the cluster, once.
#[derive(Clone, Debug, Default)]
pub(super) struct Surroundings {
    /// Version of the API server.
    pub(super) kubernetes: String,
    /// Objects of kinds that only Kruise does.
    pub(super) in_use: BTreeMap<String, usize>,
    /// What the caller would need to be allowed and is not: verb and resource.
    pub(super) forbidden: Vec<String>,
}

/// The findings.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Findings {
    /// What has to change first.
    pub(super) stops: Vec<String>,
    /// What to know.
    pub(super) warnings: Vec<String>,
}

/// Kubernetes' minor versions that Afloat's tests and its users' clusters cover.
const KUBERNETES: std::ops::RangeInclusive<u32> = 28..=34;

/// Looks at everything that could stand in the way. `despite` names kinds and gates that may stop working.
pub(super) fn check(seen: &Seen, around: &Surroundings, namespace: &str, ours: &Ours, despite: &[String]) -> Findings {
    let mut findings = Findings::default();
    findings.versions(seen, around);
    findings.manager(seen, namespace);
    findings.gates(seen, despite);
    findings.kinds(around, despite);
    findings.lease(seen);
    findings.conversion(seen, namespace, ours);
    findings.keepers(seen);
    for right in &around.forbidden {
        findings
            .stops
            .push(format!("you may not {right}: ask an administrator of the cluster"));
    }
    findings
}

impl Findings {
    fn versions(&mut self, seen: &Seen, around: &Surroundings) {
        if !kruise::release(&around.kubernetes).is_some_and(|(major, minor)| major == 1 && KUBERNETES.contains(&minor))
        {
            self.warnings.push(format!(
                "Kubernetes {} is not among the versions that Afloat was tried with (1.{} to 1.{})",
                around.kubernetes,
                KUBERNETES.start(),
                KUBERNETES.end()
            ));
        }
        let Some(kruise) = &seen.kruise else { return };
        let image = kruise.image();
        let release = kruise::tag(image).and_then(kruise::release);
        if !release.is_some_and(|release| kruise::TRIED.contains(&release)) {
            self.warnings.push(format!(
                "the image of Kruise's manager is {image}; this was tried with 1.8 and 1.9, in both directions"
            ));
        }
    }

    fn manager(&mut self, seen: &Seen, namespace: &str) {
        let Some(kruise) = &seen.kruise else {
            if seen.kept.is_none() {
                self.stops.push(format!(
                    "there is no Deployment {} in namespace {namespace}: nothing to take over; if Kruise is elsewhere say \
                     --kruise-namespace and --kruise-deployment, if it was never here apply what `afloat install` prints",
                    kruise::DEPLOYMENT
                ));
            }
            return;
        };
        let arguments = kruise.arguments();
        if kruise::switch(&arguments, "enable-leader-election") == Some(false) {
            self.stops.push(
                "Kruise's manager runs with --enable-leader-election=false: both would act at once. Remove that argument and \
                 wait until it holds its Lease"
                    .to_owned(),
            );
        }
        let lease = kruise::flag(&arguments, "leader-election-namespace");
        if lease.is_some_and(|lease| lease != namespace) {
            self.stops.push(format!(
                "Kruise's manager has its Lease in another namespace (--leader-election-namespace) than {namespace}: give it \
                 its own namespace first"
            ));
        }
        let id = kruise::flag(&arguments, "leader-election-id").filter(|id| id != kruise::HOLD_LEASE);
        if let Some(id) = id.filter(|id| id != afloat_api::names::MANAGER_LEASE) {
            self.stops.push(format!(
                "Kruise's manager has a Lease of another name (--leader-election-id={id}) than {}: remove that argument first",
                afloat_api::names::MANAGER_LEASE
            ));
        }
        if let Some(only) = kruise::flag(&arguments, "namespace").filter(|only| !only.is_empty()) {
            self.stops.push(format!(
                "Kruise's manager looks after namespace {only} alone (--namespace), and Afloat would look after all"
            ));
        }
        if kruise.deployment["spec"]["strategy"]["type"] == "Recreate" {
            self.stops.push(
                "the Deployment of Kruise's manager has the strategy Recreate: its webhooks would not be answered for a while. \
                 Make it RollingUpdate first"
                    .to_owned(),
            );
        }
        let resting = kruise.stopped() && kruise.remembered().is_none();
        if resting && seen.kept.is_none() {
            self.stops.push(
                "Kruise's manager has 0 replicas: start it, so that what is taken over is at rest, or apply what `afloat \
                 install` prints"
                    .to_owned(),
            );
        } else if seen.kept.is_none() && !kruise.rolled_out() {
            self.stops
                .push("Kruise's manager is not ready, or being rolled out: wait until it is".to_owned());
        }
    }

    fn gates(&mut self, seen: &Seen, despite: &[String]) {
        let Some(kruise) = &seen.kruise else { return };
        let gates = kruise::flag(&kruise.arguments(), "feature-gates").unwrap_or_default();
        for (name, what) in kruise::gates_for_others(&gates) {
            self.either(despite, name, format!("feature gate {name} is on: {what}"));
        }
    }

    fn kinds(&mut self, around: &Surroundings, despite: &[String]) {
        for (kind, count) in &around.in_use {
            let text = format!(
                "{count} {kind} {} in use, which Afloat does not do: Kruise's manager cannot be kept for that alone, as its \
                 controllers have one Lease and no flag that leaves the workloads out",
                if *count == 1 { "is" } else { "are" }
            );
            self.either(despite, kind, text);
        }
    }

    /// Something that stops working: in the way unless its name was given.
    fn either(&mut self, despite: &[String], name: &str, text: String) {
        if despite.iter().any(|given| given == name) {
            self.warnings.push(text);
        } else {
            self.stops
                .push(format!("{text}. To go on all the same: --despite {name}"));
        }
    }

    fn lease(&mut self, seen: &Seen) {
        let begun = seen.kept.is_some();
        if !(begun || seen.holder.is_empty() || seen.kruise_leads() || seen.afloat_leads()) {
            self.stops.push(format!(
                "the Lease {} is held by {}, which is a pod neither of Kruise's manager nor of Afloat: find out who that is",
                afloat_api::names::MANAGER_LEASE,
                seen.holder
            ));
        }
    }

    fn conversion(&mut self, seen: &Seen, namespace: &str, ours: &Ours) {
        if seen.crds.0.is_empty() {
            let names: Vec<_> = definitions::names().collect();
            self.stops.push(format!(
                "there is no CustomResourceDefinition of {}: nothing to take over",
                names.join(", ")
            ));
            return;
        }
        for (name, crd) in &seen.crds.0 {
            let client = &crd["spec"]["conversion"]["webhook"]["clientConfig"];
            let service = client["service"]["namespace"].as_str();
            let kruises = service.is_none_or(|service| service == namespace);
            if crd["spec"]["conversion"]["strategy"] == "Webhook"
                && !kruises
                && !same_conversion(crd, &ours.crd(name, afloat_api::Version::V1beta1, None))
            {
                self.stops.push(format!(
                    "the CRD {name} is converted by a webhook in namespace {}, which is not Kruise's",
                    service.unwrap_or_default()
                ));
            }
        }
        let unknown: Vec<_> = seen
            .crds
            .stored()
            .into_iter()
            .filter(|name| !["v1alpha1", "v1beta1"].contains(name))
            .collect();
        if !unknown.is_empty() {
            self.stops.push(format!(
                "workloads are stored in versions that Afloat does not know: {}",
                unknown.join(", ")
            ));
        }
    }

    /// Whoever put Kruise there may put it back.
    fn keepers(&mut self, seen: &Seen) {
        let Some(kruise) = &seen.kruise else { return };
        let metadata = &kruise.deployment["metadata"];
        if let Some(release) = metadata["annotations"]["meta.helm.sh/release-name"].as_str() {
            self.warnings.push(format!(
                "Kruise's manager belongs to the Helm release {release}: to upgrade that starts it again, and to uninstall it removes the \
                 CRDs with every workload (docs/install.md says how to make the CRD ours)"
            ));
        }
        for (field, name, who) in [
            ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
            ("labels", "argocd.argoproj.io/instance", "Argo CD"),
            ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
            ("labels", "helm.toolkit.fluxcd.io/name", "Flux"),
        ] {
            if !metadata[field][name].is_null() {
                self.warnings.push(format!(
                    "Kruise's manager is kept as it is by {who} ({name}): suspend that first, or it starts Kruise's manager again \
                     (which then waits for the Lease) and puts webhooks back that nobody answers"
                ));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
