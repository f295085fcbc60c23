//! New pods: the object, and at which revision.

use afloat_api::{PodUpdatePolicy, names};
use afloat_words::time::whole_seconds;
use serde_json::{Value, json};

use super::ordinals::{Ordinal, ordinal, pod_name};
use super::planner::StatefulSetPlanner;
use crate::action::Action;
use crate::pod::lifecycle::all_hooked;
use crate::pod::object::Pod;
use crate::workload::owner::Owner;
use crate::workload::recipe::{Beside, Own, Recipe};

impl StatefulSetPlanner<'_> {
    /// Creates pods at these ordinals with the claims that they lack, in this order. Each comes with whether it is to be at the revision
    /// that all pods had last.
    ///
    /// # Errors
    /// A template that no pod can be made from.
    pub(super) fn create(&mut self, wanted: &[(Ordinal, bool)]) -> Result<(), String> {
        let owner = self.base.seen.owner;
        let old_template = self.base.revisions.old_template.clone();
        let needs_old = wanted.iter().any(|(_, old)| *old);
        let old = old_template.as_deref().filter(|_| needs_old);
        let old = old.map(|template| self.recipe(template, &self.base.revisions.current));
        let old = old.transpose()?;
        let new = self.recipe(owner.template, &self.base.revisions.update)?;
        let mut actions = Vec::new();
        for (ordinal, at_old) in wanted {
            let name = pod_name(owner.name(), *ordinal);
            let mut labels = vec![(names::POD_NAME, name.clone())];
            if self.gates().pod_index {
                labels.push((names::POD_INDEX, ordinal.to_string()));
            }
            actions.extend(self.wishes.claims.missing(*ordinal));
            let pod = match &old {
                Some(old) if *at_old => old.pod(name, labels)?,
                _ => new.pod(name, labels)?,
            };
            actions.push(Action::CreatePod { pod });
        }
        drop((old, new));
        self.base.actions.extend(actions);
        Ok(())
    }

    /// What pods of a revision are made from.
    fn recipe<'r>(
        &'r self,
        template: &'r Value,
        revision: &'r str,
    ) -> Result<Recipe<'r, impl Fn(&mut Value, &str) + 'r>, String> {
        let owner = self.base.seen.owner;
        let mut beside = Beside::revision(owner, revision, self.gates());
        beside.labels.push((names::LIFECYCLE_STATE, self.first_state(template)));
        beside.annotations = vec![(names::LIFECYCLE_TIMESTAMP, whole_seconds(self.base.seen.now))];
        // The API asks users to put it there themselves, so where pods are recreated they do not have it.
        beside.in_place = self.wishes.rollout.policy != PodUpdatePolicy::ReCreate;
        beside.generate_name = Some(format!("{}-", owner.name()));
        let volumes = (!self.wishes.claims.none()).then_some("volumes");
        let own = Own {
            fields: ["hostname", "subdomain"].into_iter().chain(volumes).collect(),
            write: move |spec: &mut Value, pod: &str| self.give_identity(owner, spec, pod),
        };
        Recipe::of(owner, template, beside, own)
    }

    /// What is each pod's own: how it is called in the DNS, and its claims.
    fn give_identity(&self, owner: Owner<'_>, spec: &mut Value, pod: &str) {
        spec["hostname"] = json!(pod);
        if let Some(service) = self
            .seen
            .set
            .spec
            .service_name
            .as_deref()
            .filter(|name| !name.is_empty())
        {
            spec["subdomain"] = json!(service);
        }
        self.wishes.claims.mount(spec, ordinal(owner.name(), pod).unwrap_or(0));
    }

    /// A pod takes part from its beginning, unless a hook has something to say about that.
    fn first_state(&self, template: &Value) -> &'static str {
        let hooks = self.seen.set.spec.lifecycle.as_ref();
        let Some(hook) = hooks.and_then(|hooks| hooks.pre_normal.as_ref()) else {
            return names::STATE_NORMAL;
        };
        let pod: Pod = serde_json::from_value(json!({"metadata": template["metadata"]})).unwrap_or_default();
        if all_hooked(hook, &pod) {
            names::STATE_NORMAL
        } else {
            names::STATE_PREPARING_NORMAL
        }
    }
}
