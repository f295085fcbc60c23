//! The API server's side of a plan, with what must never happen.

use super::control::{Planned, Write};
use super::search::Model;
use super::state::{SLOTS, Slot, Spec, State};
use afloat_rollout::action::{Action, Why};
use afloat_rollout::pod::update::ground::again;

impl Model {
    /// The writes of the plan whose bits are set.
    pub(super) fn carry_out(&mut self, state: &State, planned: &Planned, which: u32) -> Result<State, String> {
        let mut next = *state;
        let mut wrote_pods = false;
        for (index, write) in planned.writes.iter().enumerate() {
            if which & (1 << index) == 0 {
                continue;
            }
            match write {
                Write::Create { object } => wrote_pods |= self.create(&mut next, *object)?,
                Write::Delete { place, why } => wrote_pods |= self.delete(state, &mut next, *place, *why)?,
                Write::Patch { place, .. } => wrote_pods |= self.patch(state, &mut next, *place, write)?,
                Write::CreateRevision(revision) => {
                    let newest = next.ranks.into_iter().max().unwrap_or(0);
                    next.ranks[usize::from(*revision)] = newest + 1;
                }
                Write::NumberRevision(revision, number) => next.ranks[usize::from(*revision)] = *number,
                Write::DeleteRevision(revision) => next.ranks[usize::from(*revision)] = 0,
                // The status was decided on that version of the CloneSet.
                Write::Status(current) if next.spec == next.spec_seen => {
                    next.spec.current = *current;
                    next.spec_seen.current = *current;
                }
                Write::Status(_) => {}
            }
        }
        if wrote_pods && self.planted.waits() {
            for slot in &mut next.slots {
                slot.seen = slot.object;
            }
        }
        Ok(next.canonical())
    }

    /// A write takes effect if the pod is still what was seen.
    fn guarded(&self, slot: Slot) -> bool {
        slot.object != 0 && (slot.object == slot.seen || !self.planted.guards())
    }

    /// A write that met another one is sent again if it would have been decided in the same way after that.
    fn sent_again(&mut self, slot: Slot, place: usize, action: &Action) -> bool {
        if slot.object == 0 || slot.seen == 0 {
            return false;
        }
        let (decided, present) = (
            self.objects.render(slot.seen, place),
            self.objects.render(slot.object, place),
        );
        again(action, &decided, &present).is_some()
    }

    fn create(&mut self, next: &mut State, object: u16) -> Result<bool, String> {
        let used = next.slots.iter().filter(|slot| **slot != Slot::default()).count();
        if used >= self.setup.slots {
            return Ok(false);
        }
        let free = next.slots.iter().position(|slot| *slot == Slot::default()).unwrap();
        next.slots[free].object = object;
        let limit = usize::from(next.spec_seen.replicas + self.setup.max_surge);
        let active = self.active(next);
        if active > limit {
            return Err(format!("{active} pods, {limit} allowed"));
        }
        Ok(true)
    }

    fn delete(&mut self, seen: &State, next: &mut State, place: usize, why: Why) -> Result<bool, String> {
        let slot = next.slots[place];
        if !self.guarded(slot) {
            return Ok(false);
        }
        if self.setup.in_place() && why == Why::ReCreate {
            return Err("a pod is replaced that could change in place".into());
        }
        if self.setup.hooks && self.objects.facts(slot.object).hooked[1] {
            return Err("a pod is deleted while its hook holds it".into());
        }
        self.terminate(next, place);
        self.check_budget(seen, next, place, slot.object)?;
        Ok(true)
    }

    /// Sets a pod on its way out.
    pub(super) fn terminate(&mut self, next: &mut State, place: usize) {
        let mut value = self.objects.value(next.slots[place].object).clone();
        value["metadata"]["deletionTimestamp"] = serde_json::json!(super::object::TIMES[2]);
        next.slots[place].object = self.objects.keep(value, &self.setup);
    }

    fn patch(&mut self, seen: &State, next: &mut State, place: usize, write: &Write) -> Result<bool, String> {
        let Write::Patch {
            why,
            action,
            patch,
            object,
            ..
        } = write
        else {
            return Ok(false);
        };
        let slot = next.slots[place];
        if !self.guarded(slot) && !self.sent_again(slot, place, action) {
            return Ok(false);
        }
        let after = if slot.object == slot.seen {
            *object
        } else {
            self.objects.patched(slot.object, patch, &self.setup)
        };
        next.slots[place].object = after;
        let spec = next.spec_seen;
        let mut node = self.nodes.get(slot.node).clone();
        let (was, is) = (
            self.objects.facts(slot.object).clone(),
            self.objects.facts(after).clone(),
        );
        self.check_budget(seen, next, place, slot.object)?;
        if was.images != is.images {
            self.check_update(slot, after, spec)?;
            node.outdate();
        }
        if was.revision != is.revision {
            self.check_partition(next, spec)?;
        }
        if was.gate != "True" && is.gate == "True" {
            for (index, image) in is.images.iter().enumerate() {
                // One that was never started is a new pod's, which is not Ready for another reason.
                let other = node.running[index]
                    .as_ref()
                    .filter(|running| running.stopped || running.doomed() || &running.image != image);
                if let Some(running) = other {
                    return Err(format!("back in service with {running:?} instead of {image}"));
                }
            }
            node.drained = None;
        }
        if *why == Why::Drain {
            let age = if self.setup.grace || self.setup.settles() { 0 } else { 2 };
            node.drained = Some((spec.target, age));
        }
        next.slots[place].node = self.nodes.keep(node);
        Ok(true)
    }

    /// After a pod that was available went, enough must be left. Pods count that failed and were not seen as failed when
    /// the plan was made (`seen`): nobody could know.
    fn check_budget(&self, seen: &State, next: &State, place: usize, before: u16) -> Result<(), String> {
        let available = |object: u16| self.objects.facts(object).available;
        if !available(before) || available(next.slots[place].object) {
            return Ok(());
        }
        let faults = self.setup.crashes || self.setup.deletions;
        let unknown = |slot: &Slot| faults && slot.seen != slot.object && available(slot.seen);
        let counts =
            |other: &usize| available(next.slots[*other].object) || *other != place && unknown(&seen.slots[*other]);
        let left = (0..SLOTS).filter(counts).count();
        let least = next.spec_seen.replicas.saturating_sub(self.setup.max_unavailable);
        if left < usize::from(least) {
            return Err(format!("{left} pods available, {least} must be"));
        }
        Ok(())
    }

    /// Images change only on a pod that left service for this very revision, long enough ago, to what that revision
    /// says.
    fn check_update(&self, slot: Slot, after: u16, spec: Spec) -> Result<(), String> {
        let (was, is) = (self.objects.facts(slot.object), self.objects.facts(after));
        let wanted = self.setup.images[usize::from(spec.target)];
        if is.images != wanted || is.revision != spec.target {
            return Err(format!(
                "images {:?} become {:?}, not {wanted:?}",
                was.images, is.images
            ));
        }
        if self.setup.hooks && was.hooked[0] {
            return Err("images change while a hook holds the pod".into());
        }
        let least = if self.setup.grace { 1 } else { 0 };
        let drained = self.nodes.get(slot.node).drained;
        let drained = drained.is_some_and(|(revision, age)| revision == spec.target && age >= least);
        if was.gated && (was.gate != "False" || is.gate != "False" || !drained) {
            return Err(format!(
                "images change on a pod that was not taken out of service for it: {:?}",
                self.nodes.get(slot.node).drained
            ));
        }
        Ok(())
    }

    fn check_partition(&self, next: &State, spec: Spec) -> Result<(), String> {
        let updated = next
            .slots
            .iter()
            .map(|slot| self.objects.facts(slot.object))
            .filter(|facts| facts.active && facts.revision == spec.target)
            .count();
        let most = usize::from(spec.replicas.saturating_sub(self.setup.partition));
        if updated > most {
            return Err(format!("{updated} pods updated, {most} allowed by the partition"));
        }
        Ok(())
    }

    pub(super) fn active(&self, state: &State) -> usize {
        let facts = state.slots.iter().map(|slot| self.objects.facts(slot.object));
        facts.filter(|facts| facts.active).count()
    }
}
