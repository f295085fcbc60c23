//! The API server's side of a plan, with what must never happen.

use afloat_rollout::action::Why;

use super::control::Write;
use super::object::Facts;
use super::search::Model;
use super::setup::{Slot, State};

impl Model {
    /// The writes whose bits are set.
    pub(super) fn carry_out(&mut self, state: &State, writes: &[Write], which: u32) -> Result<State, String> {
        let mut next = *state;
        let mut wrote = false;
        let chosen = writes.iter().enumerate().filter(|(index, _)| which & (1 << index) != 0);
        for (_, write) in chosen {
            match write {
                Write::Newest(revision) => next.spec.newest = *revision,
                Write::Current(revision) => next.spec.current = *revision,
                Write::Create { ordinal, object } => wrote |= self.create(state, &mut next, *ordinal, *object)?,
                Write::Delete { ordinal, why } => {
                    let slot = next.slots[*ordinal];
                    if self.guarded(slot) {
                        self.check_deletion(state, &next, *ordinal, *why)?;
                        next.slots[*ordinal].object = self.objects.deleted(slot.object, &self.setup);
                        self.check_budget(state, &next, *ordinal, slot.object)?;
                        wrote = true;
                    }
                }
                Write::Patch { ordinal, why, object } => {
                    let slot = next.slots[*ordinal];
                    if self.guarded(slot) {
                        next.slots[*ordinal].object = *object;
                        self.check_patch(state, &next, *ordinal, *why)?;
                        self.check_budget(state, &next, *ordinal, slot.object)?;
                        wrote = true;
                    }
                }
            }
        }
        if wrote && self.planted.waits() {
            return Ok(next.up_to_date());
        }
        Ok(next)
    }

    /// A write takes effect if the pod is still what was seen.
    fn guarded(&self, slot: Slot) -> bool {
        slot.object != 0 && (slot.object == slot.seen || !self.planted.guards())
    }

    fn facts_of(&self, slot: Slot) -> &Facts {
        self.objects.facts(slot.object)
    }

    fn seen(&self, state: &State, ordinal: usize) -> &Facts {
        self.objects.facts(state.slots[ordinal].seen)
    }

    fn create(&mut self, seen: &State, next: &mut State, ordinal: usize, object: u16) -> Result<bool, String> {
        if next.slots[ordinal].object != 0 {
            // The API server refuses it: there is one of that name.
            return Ok(false);
        }
        let wanted = self.setup.wanted(next.spec);
        let Some(index) = wanted.iter().position(|other| *other == ordinal) else {
            return Err(format!("a pod at ordinal {ordinal}, which is not wanted"));
        };
        let before = wanted[..index].iter().find(|other| !self.seen(seen, **other).available);
        if let Some(other) = before.filter(|_| !self.setup.parallel) {
            return Err(format!("web-{ordinal} comes before web-{other} is available"));
        }
        let (spec, revision) = (next.spec, self.objects.facts(object).revision);
        let kept = index < usize::from(self.setup.partition);
        let expected = if kept { spec.current } else { spec.target };
        if revision != Some(expected) {
            return Err(format!(
                "web-{ordinal} is made at revision {revision:?}, not {expected}"
            ));
        }
        next.slots[ordinal].object = object;
        Ok(true)
    }

    fn check_deletion(&self, seen: &State, next: &State, ordinal: usize, why: Why) -> Result<(), String> {
        let wanted = self.setup.wanted(next.spec);
        let index = wanted.iter().position(|other| *other == ordinal);
        match (why, index) {
            (Why::ScaleDown, Some(_)) => Err(format!("web-{ordinal} is wanted, and goes")),
            (Why::ScaleDown, None) if !self.setup.parallel => {
                let after = |other: &usize| !wanted.contains(other) && self.facts_of(next.slots[*other]).there;
                match (ordinal + 1..next.slots.len()).find(after) {
                    Some(other) => Err(format!("web-{ordinal} goes before web-{other} is gone")),
                    None => Ok(()),
                }
            }
            (Why::ReCreate, index) => self.check_turn(seen, ordinal, index),
            _ => Ok(()),
        }
    }

    fn check_patch(&self, seen: &State, next: &State, ordinal: usize, why: Why) -> Result<(), String> {
        let wanted = self.setup.wanted(next.spec);
        let index = wanted.iter().position(|other| *other == ordinal);
        let (was, is) = (self.seen(seen, ordinal), self.facts_of(next.slots[ordinal]));
        if was.image != is.image && !was.drained {
            return Err(format!("web-{ordinal} changes in service"));
        }
        match why {
            Why::Drain | Why::Update => self.check_turn(seen, ordinal, index),
            _ => Ok(()),
        }
    }

    /// A pod is updated if the partition leaves it, and if all after it are updated, or are on their way, or serve nobody. One that does not
    /// serve itself may be updated at any time.
    fn check_turn(&self, seen: &State, ordinal: usize, index: Option<usize>) -> Result<(), String> {
        let Some(index) = index else {
            return Err(format!("web-{ordinal} is updated, and not wanted"));
        };
        if index < usize::from(self.setup.partition) {
            return Err(format!("web-{ordinal} is updated, which the partition keeps"));
        }
        if !self.seen(seen, ordinal).available {
            return Ok(());
        }
        let wanted = self.setup.wanted(seen.spec);
        let waits = |other: &&usize| {
            let facts = self.seen(seen, **other);
            facts.available && facts.revision != Some(seen.spec.target)
        };
        // Of those after it as many may go in the same plan as the budget has room for.
        let waiting = wanted[index + 1..].iter().filter(waits).count();
        if waiting >= usize::from(self.setup.max_unavailable) {
            return Err(format!(
                "web-{ordinal} is updated before its turn: {waiting} wait after it"
            ));
        }
        Ok(())
    }

    /// After a pod that was available went, enough must be left. Pods count that failed and were not seen as failed when the plan was made:
    /// nobody could know.
    fn check_budget(&self, seen: &State, next: &State, ordinal: usize, before: u16) -> Result<(), String> {
        let available = |object: u16| self.objects.facts(object).available;
        let wanted = self.setup.wanted(next.spec);
        if !wanted.contains(&ordinal) || !available(before) || available(next.slots[ordinal].object) {
            return Ok(());
        }
        let unknown = |other: usize| {
            let slot = seen.slots[other];
            self.setup.faults() && slot.seen != slot.object && available(slot.seen)
        };
        let counts = |other: &&usize| available(next.slots[**other].object) || **other != ordinal && unknown(**other);
        let left = wanted.iter().filter(counts).count();
        let least = usize::from(next.spec.replicas.saturating_sub(self.setup.max_unavailable));
        if left < least {
            return Err(format!("{left} pods available, {least} must be"));
        }
        Ok(())
    }

    /// What a world at rest has to be like.
    pub(super) fn check_end(&self, state: &State) -> Result<(), String> {
        let wanted = self.setup.wanted(state.spec);
        for (ordinal, slot) in state.slots.iter().enumerate() {
            let facts = self.facts_of(*slot);
            let index = wanted.iter().position(|other| *other == ordinal);
            match index {
                None if facts.there => return Err(format!("web-{ordinal} is left")),
                None => {}
                Some(_) if !facts.available => return Err(format!("web-{ordinal} is not available")),
                Some(index)
                    if index >= usize::from(self.setup.partition) && facts.revision != Some(state.spec.target) =>
                {
                    return Err(format!("web-{ordinal} is not updated"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
