//! The classes that a new pod names: its priority and its runtime.

use afloat_machinery::kinds::Resource;
use afloat_machinery::{give_priority, give_runtime, one_default};
use serde_json::Value;

use crate::admit::Admission;
use crate::view;
use crate::wire::status::Status;

const PRIORITIES: (&str, &str) = ("scheduling.k8s.io", "priorityclasses");
const RUNTIMES: (&str, &str) = ("node.k8s.io", "runtimeclasses");

impl Admission {
    /// Admission plugins Priority and RuntimeClass.
    pub(super) fn classes_of(&self, resource: &Resource, pod: &mut Value) -> Result<(), Status> {
        let name = view::meta(pod, "name").to_owned();
        let refuse = |why: String| Status::forbidden(resource, &name, &why);
        give_priority(pod, &self.everything(PRIORITIES.0, PRIORITIES.1)).map_err(refuse)?;
        let wanted = pod["spec"]["runtimeClassName"].as_str().unwrap_or_default();
        let classes = self.reader.registry().resolve(RUNTIMES.0, "v1", RUNTIMES.1);
        let class = classes.filter(|_| !wanted.is_empty());
        let class = class.and_then(|classes| self.reader.find(&classes, None, wanted));
        let class: Option<Value> = class.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        give_runtime(pod, class.as_ref()).map_err(refuse)
    }

    /// Of all priority classes one can be the default.
    pub(super) fn one_default(&self, resource: &Resource, class: &Value) -> Result<(), Status> {
        let all = self.everything(PRIORITIES.0, PRIORITIES.1);
        one_default(class, &all).map_err(|why| Status::forbidden(resource, view::meta(class, "name"), &why))
    }
}
