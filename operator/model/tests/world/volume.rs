//! Volume claims in this world.

use afloat_api::names;
use serde_json::{Value, json};

use super::{World, object};
use afloat_rollout::action::At;

impl World {
    pub(crate) fn create_claim(&mut self, body: &Value) {
        let name = body["metadata"]["name"].as_str().unwrap().to_owned();
        if !self.claims.contains_key(&name) {
            self.version += 1;
            let mut body = body.clone();
            body["metadata"]["resourceVersion"] = json!(self.version.to_string());
            body["metadata"]["uid"] = json!(format!("uid-{}", self.version));
            self.claims.insert(name, body);
        }
        self.wrote(3);
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
