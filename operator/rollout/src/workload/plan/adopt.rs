//! Whose the pods are: adoption and release.

use super::planner::Planner;
use crate::action::patch::{OwnerEdit, PodPatch};
use crate::action::{Action, Why};
use crate::pod::object::Pod;

impl<'a> Planner<'a> {
    /// Adopts orphans that match the selector and `may` be its, releases pods that no longer match. An adopted pod counts
    /// from the next plan on, when it is seen as ours.
    pub(crate) fn adopt(&mut self, may: impl Fn(&Pod) -> bool) {
        let owner = self.seen.owner;
        let orphans: Vec<_> = self.tally.orphans.iter().copied().filter(|pod| may(pod)).collect();
        for pod in orphans {
            self.edit_owner(pod, Why::Adopt, OwnerEdit::Add(owner.reference()));
        }
        for pod in self.tally.strays.clone() {
            self.release(pod);
        }
    }

    /// The pod is nobody's from now on.
    pub(crate) fn release(&mut self, pod: &'a Pod) {
        let uid = self.seen.owner.uid().unwrap_or_default().to_owned();
        self.edit_owner(pod, Why::Release, OwnerEdit::Remove(uid));
    }

    fn edit_owner(&mut self, pod: &'a Pod, why: Why, edit: OwnerEdit) {
        let action = Action::PatchPod {
            at: pod.at(),
            patch: PodPatch {
                owners: vec![edit],
                ..PodPatch::default()
            },
            why,
        };
        self.write(pod, action);
    }
}
