//! Thousands of pods have most in common: it is in memory once.

use std::sync::Arc;

use afloat_words::texts::Pool;

use crate::pod::object::{Container, Pod, ReadinessGate};
use crate::pod::resources::Resources;
use crate::texts::Text;

impl Pod {
    /// Takes the texts that the pod had before, and those that other pods have, too.
    pub fn share(&mut self, before: Option<&Self>, pool: &mut Pool) {
        let blank;
        let before = match before {
            Some(before) => before,
            None => {
                blank = Self::default();
                &blank
            }
        };
        self.remember(before);
        self.labels.share(&before.labels, pool);
        self.annotations.share(&before.annotations, pool);
        self.metadata.namespace.share(Some(&before.metadata.namespace), pool);
        self.metadata.name.keep(&before.metadata.name);
        self.metadata.uid.keep(&before.metadata.uid);
        for text in &mut self.metadata.finalizers {
            text.share(None, pool);
        }
        if let Some(owner) = &mut self.controller {
            let old = before.controller.as_ref();
            owner.api_version.share(old.map(|old| &old.api_version), pool);
            owner.kind.share(old.map(|old| &old.kind), pool);
            owner.name.share(old.map(|old| &old.name), pool);
            owner.uid.share(old.map(|old| &old.uid), pool);
        }
        share(&mut self.spec.node_name, before.spec.node_name.as_ref(), pool);
        share(&mut self.spec.pinned_to, before.spec.pinned_to.as_ref(), pool);
        share_list(&mut self.spec.containers, &before.spec.containers, pool);
        share_list(&mut self.spec.readiness_gates, &before.spec.readiness_gates, pool);
        self.status.phase.share(Some(&before.status.phase), pool);
        share(&mut self.status.resize, before.status.resize.as_ref(), pool);
        for (index, condition) in self.status.conditions.iter_mut().enumerate() {
            let old = before.status.conditions.get(index);
            condition.kind.share(old.map(|old| &old.kind), pool);
            condition.status.share(old.map(|old| &old.status), pool);
            share(&mut condition.reason, old.and_then(|old| old.reason.as_ref()), pool);
            share(&mut condition.message, old.and_then(|old| old.message.as_ref()), pool);
        }
        for (index, status) in self.status.container_statuses.iter_mut().enumerate() {
            let old = before.status.container_statuses.get(index);
            status.name.share(old.map(|old| &old.name), pool);
            status.image.share(old.map(|old| &old.image), pool);
            status.image_id.share(old.map(|old| &old.image_id), pool);
            share_resources(&mut status.resources, old.and_then(|old| old.resources.as_ref()), pool);
            if let Some(waiting) = &mut status.state.waiting {
                share(&mut waiting.reason, None, pool);
            }
        }
    }
}

/// What thousands of pods have in common.
trait Common: PartialEq + Clone + Send + Sync + 'static {
    /// Texts by which it differs from others.
    fn texts(&self) -> impl Iterator<Item = &str>;
    /// Takes the texts that others have, too.
    fn share(&mut self, pool: &mut Pool);
}

impl Common for Container {
    fn texts(&self) -> impl Iterator<Item = &str> {
        [self.name.as_str(), self.image.as_str()].into_iter()
    }
    fn share(&mut self, pool: &mut Pool) {
        self.name.share(None, pool);
        self.image.share(None, pool);
        for text in &mut self.restart_to_resize {
            text.share(None, pool);
        }
    }
}

impl Common for ReadinessGate {
    fn texts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.condition_type.as_str())
    }
    fn share(&mut self, pool: &mut Pool) {
        self.condition_type.share(None, pool);
    }
}

fn share_list<T: Common>(list: &mut Arc<Vec<T>>, before: &Arc<Vec<T>>, pool: &mut Pool) {
    if list == before {
        *list = before.clone();
        return;
    }
    Arc::make_mut(list).iter_mut().for_each(|item| item.share(pool));
    *list = pool.share_value(list.iter().flat_map(Common::texts), list);
}

fn share_resources(resources: &mut Option<Arc<Resources>>, before: Option<&Arc<Resources>>, pool: &mut Pool) {
    let Some(present) = resources else { return };
    *present = match before.filter(|before| *before == present) {
        Some(before) => before.clone(),
        None => pool.share_value(present.texts(), present),
    };
}

fn share(text: &mut Option<Text>, before: Option<&Text>, pool: &mut Pool) {
    if let Some(text) = text {
        text.share(before, pool);
    }
}
