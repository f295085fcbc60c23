//! Volume claims in this world.

use std::sync::Arc;

use afloat_api::names;
use serde_json::{Value, json};

use super::{Bug, Plan, World, object};
use afloat_rollout::action::{Action, At};
use afloat_rollout::pod::object::Pod;
use afloat_rollout::workload::claim::Claim;

impl World {
    /// The claims as the controller sees them.
    pub(crate) fn seen_claims(&self, pods: &[Arc<Pod>]) -> Vec<Arc<Claim>> {
        let seen = &self.history[self.seen[3]].claims;
        let going = |claim: &Claim| {
            let id = claim
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(names::INSTANCE_ID));
            let of_claim = |pod: &&Arc<Pod>| pod.labels.get(names::INSTANCE_ID) == id.map(String::as_str);
            pods.iter().find(of_claim).is_some_and(|pod| pod.metadata.terminating)
        };
        match self.bug {
            Bug::NoClaims => Vec::new(),
            Bug::NewClaims => seen.iter().filter(|claim| !going(claim)).cloned().collect(),
            _ => seen.clone(),
        }
    }

    /// No pod gets the name of one that the controller still sees.
    pub(crate) fn check_names(&self, plan: &Plan) -> Result<(), String> {
        let pods = self.sight.pods();
        let created = plan.actions.iter().filter_map(|action| match action {
            Action::CreatePod { pod } => Some(pod.name.as_str()),
            _ => None,
        });
        match created
            .into_iter()
            .find(|name| pods.iter().any(|pod| pod.name() == *name))
        {
            Some(name) => Err(format!("{name} is created while it is there")),
            None => Ok(()),
        }
    }

    /// With reuse there are never more claims than pods were wanted at a time, whoever deletes whatever.
    fn check_number(&self) -> Result<(), String> {
        let left = self
            .claims
            .values()
            .filter(|claim| claim["metadata"]["deletionTimestamp"].is_null());
        let left = left.count();
        let reuse = self.set["spec"]["scaleStrategy"]["enablePVCReuse"] == true;
        if reuse && left > self.most && self.bug != Bug::StaleView {
            return Err(format!("{left} claims, and {} pods at most were wanted", self.most));
        }
        Ok(())
    }

    pub(crate) fn create_claim(&mut self, body: &Value) -> Result<(), String> {
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        if !self.claims.contains_key(&name) {
            self.version += 1;
            let mut body = body.clone();
            body["metadata"]["resourceVersion"] = json!(self.version.to_string());
            body["metadata"]["uid"] = json!(format!("uid-{}", self.version));
            self.claims.insert(name, body);
        }
        self.wrote(3);
        self.check_number()
    }

    /// A claim must not go under a pod that stays.
    pub(crate) fn delete_claim(&mut self, at: &At) -> Result<(), String> {
        if object::matches(self.claims.get(&at.name), at) {
            let id = self.claims[&at.name]["metadata"]["labels"][names::INSTANCE_ID].clone();
            let has = |pod: &&String| self.pods[*pod]["metadata"]["labels"][names::INSTANCE_ID] == id;
            if let Some(pod) = self.active().into_iter().find(has) {
                return Err(format!("claim {} deleted under {pod}", at.name));
            }
            self.version += 1;
            let claim = self.claims.get_mut(&at.name).unwrap();
            claim["metadata"]["deletionTimestamp"] = json!(afloat_words::time::whole_seconds(self.now));
            claim["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.protect();
        }
        self.wrote(3);
        Ok(())
    }

    /// Claims whose pod is gone go too, also those that were passed on too late, and those that waited for it.
    pub(crate) fn collect_claims(&mut self) {
        let uids: Vec<_> = self.pods.values().map(|pod| pod["metadata"]["uid"].clone()).collect();
        self.claims.retain(|_, claim| {
            let owner = &claim["metadata"]["ownerReferences"][0]["uid"];
            owner == "set" || uids.contains(owner)
        });
        self.protect();
    }

    /// Claims that are to go are gone once no pod has them.
    fn protect(&mut self) {
        let pods = &self.pods;
        self.claims.retain(|_, claim| {
            let id = &claim["metadata"]["labels"][names::INSTANCE_ID];
            claim["metadata"]["deletionTimestamp"].is_null()
                || pods
                    .values()
                    .any(|pod| &pod["metadata"]["labels"][names::INSTANCE_ID] == id)
        });
    }

    /// Every pod has its claims; without reuse there are no others.
    pub(crate) fn check_claims(&self) -> Result<(), String> {
        if self.set["spec"]["volumeClaimTemplates"].is_null() {
            return Ok(());
        }
        for pod in self.pods.values() {
            let claim = &pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"];
            if !claim.as_str().is_some_and(|name| self.claims.contains_key(name)) {
                return Err(format!("no claim {claim}"));
            }
        }
        let reuse = self.set["spec"]["scaleStrategy"]["enablePVCReuse"] == true;
        if !reuse && self.claims.len() != self.pods.len() {
            return Err(format!("{} claims for {} pods", self.claims.len(), self.pods.len()));
        }
        Ok(())
    }
}
