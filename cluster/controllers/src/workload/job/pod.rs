//! The pods that a Job makes, and how they are let go.

use serde_json::{Value, json};

use crate::objects::pod::{COMPLETION_INDEX, INDEX_FAILURES, INDEX_IGNORED_FAILURES, JOB_TRACKING};
use crate::objects::{Job, controlled_by};
use crate::workload::template::pod_from_template;

use super::plan::NewPod;

/// The variable by which a container knows its index.
const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";
/// Longest prefix of a generated name: five characters are added, and a name has at most 63.
const PREFIX_MOST: usize = 58;

/// Strategic merge patch by which a pod loses the finalizer.
pub(super) fn freeing() -> Value {
    json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [JOB_TRACKING]}})
}

/// A pod of the Job.
pub(super) fn pod(job: &Job, new: &NewPod) -> Value {
    let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
    let name = job.metadata.name.as_deref().unwrap_or_default();
    let mut pod = pod_from_template(&job.spec.template, namespace, controlled_by::<Job>(&job.metadata));
    let mut finalizers = pod["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == JOB_TRACKING) {
        finalizers.push(json!(JOB_TRACKING));
    }
    pod["metadata"]["finalizers"] = finalizers.into();
    pod["metadata"]["generateName"] = json!(format!("{name}-"));
    let Some(index) = new.index else {
        return pod;
    };
    pod["metadata"]["generateName"] = json!(prefix(name, index));
    pod["spec"]["hostname"] = json!(format!("{name}-{index}"));
    let index = json!(index.to_string());
    pod["metadata"]["labels"][COMPLETION_INDEX] = index.clone();
    pod["metadata"]["annotations"][COMPLETION_INDEX] = index;
    if let Some((counted, ignored)) = new.failures {
        pod["metadata"]["annotations"][INDEX_FAILURES] = json!(counted.to_string());
        if ignored > 0 {
            pod["metadata"]["annotations"][INDEX_IGNORED_FAILURES] = json!(ignored.to_string());
        }
    }
    for key in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(key).and_then(Value::as_array_mut);
        containers.into_iter().flatten().for_each(tell_index);
    }
    pod
}

/// `name-index-`, of which only the name is shortened.
fn prefix(name: &str, index: usize) -> String {
    let suffix = format!("-{index}-");
    let most = PREFIX_MOST.saturating_sub(suffix.len());
    let name = name.get(..most).unwrap_or(name);
    format!("{name}{suffix}")
}

/// Gives a container the variable, unless it has one of that name.
fn tell_index(container: &mut Value) {
    let Some(container) = container.as_object_mut() else {
        return;
    };
    let variable = json!({
        "name": INDEX_VARIABLE,
        "valueFrom": {"fieldRef": {"fieldPath": format!("metadata.labels['{COMPLETION_INDEX}']")}},
    });
    let variables = container.entry("env").or_insert_with(|| json!([]));
    if variables.is_null() {
        *variables = json!([]);
    }
    if let Some(variables) = variables.as_array_mut()
        && !variables.iter().any(|known| known["name"] == INDEX_VARIABLE)
    {
        variables.push(variable);
    }
}
