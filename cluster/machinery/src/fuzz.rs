//! What clients may send: selectors, paths, patches and policies.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::admission::{Operation, Policies, Request};
use crate::kinds::Registry;
use crate::patch::{PatchType, apply};
use crate::selector::{FieldSelector, LabelSelector};
use crate::table;

fn pod() -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "finalizers": ["a", "b"]},
        "spec": {
            "containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 80}], "args": ["x"]}, {"name": "b"}],
            "tolerations": [{"key": "k", "operator": "Exists"}],
        },
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

proptest! {
    #[test]
    fn selectors_mean_what_they_say_again(text in afloat_fuzz::damaged_text(&[
        "app=web,tier!=db", "a in (b,c),d notin (e)", "!k,example.com/k", "a==b", "a in ()",
    ])) {
        if let Ok(selector) = LabelSelector::parse(&text) {
            let told = serde_json::to_value(selector.to_api()).unwrap();
            let again = LabelSelector::from_value(&told);
            prop_assert!(again.is_ok(), "{text:?} became {told}: {again:?}");
            prop_assert_eq!(again.unwrap().matches(&pod()), selector.matches(&pod()));
        }
    }

    #[test]
    fn field_selectors_are_read_or_refused(text in afloat_fuzz::damaged_text(&[
        "metadata.name=web", "spec.nodeName!=n,status.phase==Running",
    ])) {
        let pods = Registry::builtin().by_kind("v1", "Pod").unwrap();
        if let Ok(selector) = FieldSelector::parse(&pods, &text) {
            let _ = selector.matches(&pod());
        }
    }

    #[test]
    fn columns_show_something_or_nothing(path in afloat_fuzz::damaged_text(&[
        ".spec.containers[*].image", ".spec.containers[-1].image", r".metadata.labels.app\.io/name",
        r#"{.status.conditions[?(@.type=="Ready")].status}"#, ".metadata.labels['app.io/name']",
        ".spec.containers[?(@.ports[0].containerPort != '80')].name",
    ])) {
        let mut resource = (*Registry::builtin().by_kind("v1", "ConfigMap").unwrap()).clone();
        resource.schema = Some(std::sync::Arc::new(json!({"type": "object"})));
        resource.columns = std::sync::Arc::new(json!([{"name": "C", "type": "string", "jsonPath": path}]));
        let cells = table::cells(&resource, &pod(), "2026-01-01T00:00:00Z");
        prop_assert_eq!(cells.len(), table::columns(&resource).len());
    }

    #[test]
    fn patches_are_applied_or_refused(bytes in afloat_fuzz::damaged([
        r#"{"spec":{"containers":[{"name":"a","image":"a:2"},{"$patch":"delete","name":"b"}],"$setElementOrder/containers":[{"name":"a"}]}}"#,
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a"],"finalizers":["c"]},"spec":{"$retainKeys":["containers"]}}"#,
        r#"{"spec":{"tolerations":[{"$patch":"replace"},{"key":"n"}],"$patch":"replace"}}"#,
        r#"[{"op":"replace","path":"/spec/containers/0/image","value":"a:2"},{"op":"copy","from":"/spec","path":"/status/x"}]"#,
        r#"[{"op":"test","path":"/metadata/name","value":"web"},{"op":"move","from":"/spec/containers/0","path":"/spec/containers/-"}]"#,
        r#"{"metadata":{"labels":{"app":null}}}"#,
    ])) {
        let Ok(patch) = serde_json::from_slice::<Value>(&bytes) else { return Ok(()) };
        let pods = Registry::builtin().by_kind("v1", "Pod").unwrap();
        for kind in [PatchType::Strategic, PatchType::Merge, PatchType::Json] {
            let _ = apply(kind, &pods, &pod(), &patch);
        }
    }

    #[test]
    fn policies_are_evaluated_or_say_why_not(expression in afloat_fuzz::damaged_text(&[
        "object.spec.containers.all(c, c.image.startsWith('a:') && size(c.ports) > 0)",
        "has(object.metadata.labels) && object.metadata.labels['app'] in ['web', \"x\"]",
        "quantity('100m').isLessThan(quantity('1')) || object.metadata.name.matches('^[a-z]+$')",
        "object.spec.containers.map(c, c.name).exists_one(n, n == 'a') ? 1 + 2 * 3 > 4 : duration('1h') < duration('2h')",
        "url('https://a/b').getHost() == 'a' && ip('10.0.0.1').family() == 4 && [1, 2, 3].sum() == 6",
        "timestamp(request.name) == null || 9223372036854775807 + int('1') > 0 || 'a'.charAt(0) == 'ab'.substring(0, 1)",
    ])) {
        let pods = Registry::builtin().by_kind("v1", "Pod").unwrap();
        let policy = json!({"metadata": {"name": "p"}, "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]},
            ]},
            "validations": [{"expression": expression, "messageExpression": expression}],
        }});
        let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
        let object = pod();
        let mut policies = Policies::default();
        policies.put_policy(&policy);
        policies.put_binding(&binding);
        let request = Request {
            resource: &pods,
            subresource: "",
            operation: Operation::Create,
            name: "web",
            namespace: None,
            object: Some(&object),
            old: None,
            user: "ann",
            groups: &[],
            dry_run: false,
        };
        let verdict = policies.review(&request);
        prop_assert!(verdict.denied.is_none_or(|denial| !denial.message.is_empty()));
    }
}
