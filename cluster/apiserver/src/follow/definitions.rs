//! The kinds that are served: the built-in ones and those of established definitions.

use std::sync::Arc;

use afloat_machinery::kinds::Registry;
use serde_json::Value;

use super::Follows;
use crate::view;

/// The kinds that are served.
pub(crate) struct Definitions(Arc<Registry>);

impl Definitions {
    /// The built-in kinds.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Registry::builtin()))
    }

    /// The kinds that are served now; another one as soon as they change.
    pub(crate) fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.0)
    }

    fn forget(&mut self, name: &str) {
        let (plural, group) = name.split_once('.').unwrap_or((name, ""));
        Arc::make_mut(&mut self.0).remove_crd(group, plural);
    }
}

/// Whether what a definition defines is served.
fn established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|c| c["type"] == "Established" && c["status"] == "True")
}

impl Follows for Definitions {
    fn put(&mut self, _key: &str, definition: &Value) {
        let name = view::meta(definition, "name");
        if !established(definition) {
            return self.forget(name);
        }
        if let Err(why) = Arc::make_mut(&mut self.0).add_crd(definition) {
            tracing::warn!(crd = name, why, "definition cannot be served");
        }
    }

    fn removed(&mut self, _key: &str, last: &Value) {
        self.forget(view::meta(last, "name"));
    }

    fn clear(&mut self) {
        *self = Self::new();
    }
}
