//! The API server's side of a plan, with what must never happen.

use super::control::Write;
use super::object::Facts;
use super::search::Model;
use super::setup::{Ground, SLOTS, Slot, State};
use afloat_rollout::action::Why;

impl Model {
    /// The writes whose bits are set. A write takes effect if the pod is still what was seen, and the controller sees it.
    pub(super) fn carry_out(&mut self, state: &State, writes: &[Write], which: u32) -> Result<State, String> {
        let mut next = *state;
        let mut wrote = false;
        let chosen = writes.iter().enumerate().filter(|(index, _)| which & (1 << index) != 0);
        for (_, write) in chosen {
            wrote |= match write {
                Write::Create { node, object } => self.create(state, &mut next, *node, *object)?,
                Write::Delete { place, why } => self.delete(state, &mut next, *place, *why)?,
                Write::Patch { place, why, object } => self.patch(state, &mut next, *place, *why, *object)?,
            };
        }
        if wrote && self.planted.waits() {
            for slot in &mut next.slots {
                slot.seen = slot.object;
            }
        }
        Ok(next.canonical())
    }

    fn create(&mut self, seen: &State, next: &mut State, node: u8, object: u16) -> Result<bool, String> {
        if seen.nodes_seen[usize::from(node)] != Ground::Good {
            return Err(format!("a pod for node {node}, which does not suit"));
        }
        let here: Vec<&Facts> = self.on(next, node).collect();
        let active = here.iter().filter(|pod| !pod.terminating).count();
        if self.setup.max_surge == 0 && !here.is_empty() {
            return Err(format!("a second pod on node {node}"));
        }
        if active > 1
            || here
                .iter()
                .any(|pod| pod.active && pod.revision == next.target && !pod.specified)
        {
            return Err(format!("one pod too many on node {node}: {here:?}"));
        }
        let used = next.slots.iter().filter(|slot| slot.object | slot.seen != 0).count();
        if used >= self.setup.slots {
            return Ok(false);
        }
        let Some(free) = next.slots.iter_mut().find(|slot| slot.object == 0 && slot.seen == 0) else {
            return Ok(false);
        };
        *free = Slot {
            node,
            born: u8::MAX,
            object,
            seen: 0,
        };
        self.check_surge(seen, next, node)?;
        Ok(true)
    }

    /// Pods that come beside old ones that serve, until they do. One that comes beside a pod that does not is free.
    fn check_surge(&self, seen: &State, next: &State, node: u8) -> Result<(), String> {
        let old = |pod: &Facts| pod.available && (pod.revision != seen.target || pod.specified);
        let new = |pod: &Facts| pod.active && !pod.available && pod.revision == seen.target && !pod.specified;
        let comes = |node: &u8| self.on_as_seen(seen, *node).any(old) && self.on(next, *node).any(new);
        let extra = self.good(seen).iter().filter(|node| comes(node)).count();
        if comes(&node) && extra > self.setup.max_surge {
            return Err(format!("{extra} extra pods, {} allowed", self.setup.max_surge));
        }
        Ok(())
    }

    fn delete(&mut self, seen: &State, next: &mut State, place: usize, why: Why) -> Result<bool, String> {
        let slot = next.slots[place];
        if slot.object == 0 || slot.object != slot.seen {
            return Ok(false);
        }
        let facts = self.objects.facts(slot.object).clone();
        if self.setup.hooks && facts.hooked {
            return Err("a pod is deleted while its hook holds it".into());
        }
        let stays = matches!(
            seen.nodes_seen[usize::from(slot.node)],
            Ground::Good | Ground::NoSchedule
        );
        let others = self.on_as_seen(seen, slot.node).filter(|pod| !pod.terminating).count() > 1;
        let current = facts.revision == seen.target && !facts.specified && !facts.failed && !facts.prepared;
        if stays && !others && current {
            return Err("a pod is deleted for nothing".into());
        }
        if why == Why::ReCreate && self.setup.in_place && facts.active && !facts.prepared {
            return Err("a pod is replaced that could change in place".into());
        }
        if why == Why::Specified && !facts.specified {
            return Err("nobody asked for it".into());
        }
        next.slots[place].object = self.objects.terminate(slot.object);
        self.check_partition(seen, slot, why)?;
        self.check_budget(seen, next, slot)?;
        Ok(true)
    }

    fn patch(&mut self, seen: &State, next: &mut State, place: usize, why: Why, object: u16) -> Result<bool, String> {
        let slot = next.slots[place];
        if slot.object == 0 || slot.object != slot.seen {
            return Ok(false);
        }
        let (was, is) = (
            self.objects.facts(slot.object).clone(),
            self.objects.facts(object).clone(),
        );
        if why == Why::Update && was.revision != is.revision {
            if !was.gate_closed {
                return Err("images change on a pod that is in service".into());
            }
            if is.revision != seen.target {
                return Err(format!("an update to revision {}", is.revision));
            }
        }
        if why == Why::Return && was.gate_closed && !was.true_to_spec {
            return Err("back in service with the old container".into());
        }
        next.slots[place].object = object;
        if why == Why::Drain {
            self.check_partition(seen, slot, why)?;
        }
        self.check_budget(seen, next, slot)?;
        Ok(true)
    }

    /// Who is updated is one of those that the partition leaves.
    fn check_partition(&self, seen: &State, slot: Slot, why: Why) -> Result<(), String> {
        let moves = matches!(why, Why::ReCreate | Why::Drain) && self.setup.max_surge == 0;
        let facts = self.objects.facts(slot.seen);
        if !moves || facts.prepared || facts.gate_closed || facts.revision == seen.target {
            return Ok(());
        }
        let old = |node: &u8| {
            let stays = |pod: &&Facts| pod.active && !pod.prepared && !pod.gate_closed && pod.revision != seen.target;
            self.on_as_seen(seen, *node).filter(stays).count() > 0
        };
        let good = self.good(seen);
        let kept = good.iter().filter(|node| old(node)).count();
        if good.contains(&slot.node) && kept <= self.setup.partition {
            return Err(format!("{kept} old pods, {} to keep", self.setup.partition));
        }
        Ok(())
    }

    /// After a node has lost the last pod that served there, enough nodes must have one. Pods count that failed and were not seen as
    /// failed: nobody could know.
    fn check_budget(&self, seen: &State, next: &State, lost: Slot) -> Result<(), String> {
        let serves = |state: &State, node: u8| self.on(state, node).any(|pod| pod.available);
        let good = self.good(seen);
        if !good.contains(&lost.node) || !self.objects.facts(lost.object).available || serves(next, lost.node) {
            return Ok(());
        }
        let unknown = |node: u8| {
            let late = seen
                .slots
                .iter()
                .filter(|slot| slot.node == node && slot.seen != slot.object);
            node != lost.node && late.map(|slot| self.objects.facts(slot.seen)).any(|pod| pod.available)
        };
        let left = good
            .iter()
            .filter(|node| serves(next, **node) || unknown(**node))
            .count();
        let least = good.len().saturating_sub(self.setup.max_unavailable);
        if left < least {
            return Err(format!("{left} nodes are served, {least} must be"));
        }
        Ok(())
    }

    /// Nodes that suit, as far as the controller sees.
    fn good(&self, state: &State) -> Vec<u8> {
        let all = (0..self.setup.nodes).filter(|node| state.nodes_seen[*node] == Ground::Good);
        all.map(|node| u8::try_from(node).unwrap_or(u8::MAX)).collect()
    }

    /// Pods on a node.
    pub(super) fn on<'a>(&'a self, state: &'a State, node: u8) -> impl Iterator<Item = &'a Facts> + 'a {
        let here = (0..SLOTS)
            .map(|place| state.slots[place])
            .filter(move |slot| slot.object != 0 && slot.node == node);
        here.map(|slot| self.objects.facts(slot.object))
    }

    fn on_as_seen<'a>(&'a self, state: &'a State, node: u8) -> impl Iterator<Item = &'a Facts> + 'a {
        let here = (0..SLOTS)
            .map(|place| state.slots[place])
            .filter(move |slot| slot.seen != 0 && slot.node == node);
        here.map(|slot| self.objects.facts(slot.seen))
    }
}
