//! Claim templates of StatefulSets, and fields that say nothing.

use super::*;

#[test]
fn a_mount_may_name_a_claim_template() {
    let set = |mount: &str| {
        let container = json!({"name": "c", "image": "i:1", "volumeMounts": [{"name": mount, "mountPath": "/d"}]});
        let claim = json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}});
        create(
            "apps/v1",
            "StatefulSet",
            json!({"spec": {"serviceName": "s", "selector": {"matchLabels": {"app": "w"}}, "volumeClaimTemplates": [claim],
                "template": {"metadata": {"labels": {"app": "w"}}, "spec": {"containers": [container]}}}}),
        )
    };
    let made = set("data").unwrap();
    assert!(
        made.pointer("/spec/template/spec/volumes").is_none(),
        "the pods get it, not the template"
    );
    assert!(set("other").is_err());
}

#[test]
fn a_null_is_no_field() {
    let pod = json!({"spec": {"initContainers": null, "volumes": null, "containers": [
        {"name": "a", "image": "a:1", "env": null, "resources": {"limits": null}}]}});
    let made = create("v1", "Pod", pod).unwrap();
    let text = made.to_string();
    assert!(!text.contains("null"), "{text}");
    let again = update("v1", "Pod", &made, |pod| pod["metadata"]["annotations"] = Value::Null).unwrap();
    assert!(!again.to_string().contains("null"), "{again}");
}
