//! What may happen next.

use super::object::Step;
use super::search::Model;
use super::setup::{IMAGES, PLACES, Spec, State};

impl Model {
    /// Whatever may happen that is not the controller's doing.
    pub(super) fn others(&mut self, state: &State) -> Vec<(String, State)> {
        let mut found = Vec::new();
        let mut steps = vec![Step::Work];
        let setup = &self.setup;
        steps.extend(setup.breaks.then_some(Step::Break));
        steps.extend(
            setup
                .deletions
                .then_some([Step::Delete, Step::Fail])
                .into_iter()
                .flatten(),
        );
        steps.extend(
            setup
                .loses
                .then_some([Step::Lose, Step::Return, Step::Delete])
                .into_iter()
                .flatten(),
        );
        for ordinal in 0..PLACES {
            let slot = state.slots[ordinal];
            if slot.seen != slot.object {
                let mut next = *state;
                next.slots[ordinal].seen = slot.object;
                found.push((format!("web-{ordinal} is seen"), next));
            }
            for step in &steps {
                let object = self.objects.step(slot.object, *step, &self.setup);
                if object == slot.object {
                    continue;
                }
                let mut next = *state;
                next.slots[ordinal].object = object;
                if self.setup.lag == 0 {
                    next.slots[ordinal].seen = object;
                }
                if next.lagging() <= self.setup.lag {
                    found.push((format!("web-{ordinal}: {step:?}"), next));
                }
            }
        }
        if state.edits > 0 {
            found.extend(self.wishes(state.spec).into_iter().map(|spec| {
                let edits = state.edits - 1;
                (format!("the user wants {spec:?}"), State { spec, edits, ..*state })
            }));
        }
        found
    }

    fn wishes(&self, spec: Spec) -> Vec<Spec> {
        let setup = &self.setup;
        let targets = (0..setup.targets.min(u8::try_from(IMAGES.len()).unwrap())).map(|target| Spec { target, ..spec });
        let replicas = setup.others.iter().chain([&setup.replicas]);
        let replicas = replicas.map(|replicas| Spec {
            replicas: *replicas,
            ..spec
        });
        let starts = setup
            .starts
            .iter()
            .chain([&0])
            .map(|start| Spec { start: *start, ..spec });
        let all = targets.chain(replicas).chain(starts);
        all.filter(|other| *other != spec).collect()
    }
}
