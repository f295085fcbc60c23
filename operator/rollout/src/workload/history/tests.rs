//! Which revision a template has.

use serde_json::json;

use super::*;

fn template_of(image: &str, policy: Option<&str>) -> Value {
    let mut container = json!({"name": "app", "image": image});
    if let Some(policy) = policy {
        container["imagePullPolicy"] = json!(policy);
    }
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}})
}

fn revisions(templates: &[Value]) -> Vec<Arc<ControllerRevision>> {
    let object = |(index, template): (usize, &Value)| {
        let bytes = bytes(&data(template));
        let revision = json!({"metadata": {"name": format!("web-{index}")}, "revision": index + 1,
            "data": serde_json::from_slice::<Value>(&bytes).unwrap()});
        Arc::new(serde_json::from_value(revision).unwrap())
    };
    templates.iter().enumerate().map(object).collect()
}

fn found(templates: &[Value], wanted: &Value, reported: &str) -> Option<String> {
    let revisions = revisions(templates);
    let sorted: Vec<_> = revisions.iter().collect();
    same_meaning(wanted, reported, &sorted).and_then(|found| found.metadata.name.clone())
}

/// OpenKruise's webhook wrote the policy, the manifest has none.
#[test]
fn a_manifest_without_the_webhooks_defaults_has_the_revision_that_is_there() {
    let kruise = template_of("app:1", Some("Always"));
    let wanted = template_of("app:1", None);
    assert_eq!(
        found(std::slice::from_ref(&kruise), &wanted, "web-0").as_deref(),
        Some("web-0")
    );
    assert_eq!(found(&[kruise], &template_of("app:2", None), "web-0"), None);
}

#[test]
fn saying_the_same_in_other_words_moves_no_pod() {
    let all = [
        template_of("app:1", None),
        template_of("app:1", Some("Always")),
        template_of("app:2", None),
    ];
    for (wanted, reported, expected) in [
        (&all[0], "web-1", "web-1"),
        (&all[1], "web-0", "web-0"),
        // Nothing was reported of it yet, or something else.
        (&all[0], "", "web-0"),
        (&all[1], "web-2", "web-1"),
        (&template_of("app:1", Some("IfNotPresent")), "web-1", "web-0"),
    ] {
        assert_eq!(found(&all, wanted, reported).as_deref(), Some(expected), "{wanted}");
    }
}
