use serde_json::json;

use super::*;

fn crd() -> Value {
    json!({
        "spec": {
            "group": "apps.kruise.io", "scope": "Namespaced",
            "names": {"kind": "CloneSet", "plural": "clonesets", "shortNames": ["clone"]},
            "versions": [
                {"name": "v1alpha1", "served": true, "storage": true,
                 "schema": {"openAPIV3Schema": {"type": "object"}},
                 "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.labelSelector"}}},
                {"name": "v1beta1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v0", "served": false, "storage": false}
            ]
        }
    })
}

#[test]
fn versions_sort_as_kubernetes_prefers_them() {
    let mut versions = [
        "foo10",
        "v1beta1",
        "v3beta1",
        "v11alpha2",
        "v10",
        "v2",
        "foo1",
        "v12alpha1",
        "v10beta3",
        "v11beta2",
        "v1",
    ];
    versions.sort_by(|a, b| by_priority(a, b));
    assert_eq!(
        versions,
        [
            "v10",
            "v2",
            "v1",
            "v11beta2",
            "v10beta3",
            "v3beta1",
            "v1beta1",
            "v12alpha1",
            "v11alpha2",
            "foo1",
            "foo10"
        ]
    );
}

#[test]
fn built_in_rows_are_well_formed_and_unique() {
    let registry = Registry::builtin();
    let rows: Vec<_> = registry.all().collect();
    assert_eq!(
        rows.len(),
        rows::all().count(),
        "two rows share group, version and plural"
    );
    for r in rows {
        assert_eq!(r.plural, r.plural.to_lowercase());
        assert_eq!(r.list_kind, format!("{}List", r.kind));
        assert!(r.is_stored() || !r.status);
    }
    let pods = registry.resolve("", "v1", "pods").unwrap();
    assert_eq!(
        (
            pods.singular.as_str(),
            pods.short_names[0].as_str(),
            pods.namespaced,
            pods.status
        ),
        ("pod", "po", true, true)
    );
    assert!(registry.by_kind("apps/v1", "Deployment").unwrap().scale.is_some());
    assert!(registry.groups()[0].0.is_empty());
}

#[test]
fn a_crd_adds_its_served_versions_and_leaves_again() {
    let mut registry = Registry::builtin();
    let before = registry.all().count();
    registry.add_crd(&crd()).unwrap();
    registry.add_crd(&crd()).unwrap();
    assert_eq!(registry.all().count(), before + 2);
    let alpha = registry.resolve("apps.kruise.io", "v1alpha1", "clonesets").unwrap();
    assert!(alpha.status && alpha.is_custom() && alpha.namespaced);
    assert_eq!(
        alpha.scale.as_ref().unwrap().selector.as_deref(),
        Some(".status.labelSelector")
    );
    let beta = registry.resolve("apps.kruise.io", "v1beta1", "clonesets").unwrap();
    assert_eq!(
        (beta.storage_version.as_str(), beta.status, beta.list_kind.as_str()),
        ("v1alpha1", false, "CloneSetList")
    );
    assert_eq!(
        registry.groups().iter().find(|g| g.0 == "apps.kruise.io").unwrap().1,
        ["v1beta1", "v1alpha1"]
    );
    registry.remove_crd("apps.kruise.io", "clonesets");
    registry.remove_crd("", "pods");
    assert_eq!(registry.all().count(), before);
}

#[test]
fn rows_are_complete() {
    for row in rows::all() {
        let name = row.kind;
        assert!(
            name.starts_with(char::is_uppercase) && !row.version.is_empty(),
            "{name}"
        );
        // Nothing of an object may be taken for granted.
        for object in [
            json!({}),
            json!({"metadata": {}, "spec": null, "status": []}),
            json!({"spec": {"ports": 5}}),
        ] {
            let mut new = object.clone();
            (row.default)(&mut new);
            (row.begin)(&mut new);
            (row.keep)(&object, &mut new);
            let _ = (
                (row.validate)(&new),
                (row.validate_create)(&new),
                (row.validate_update)(&object, &new),
            );
            let _ = (row.warnings)(&new);
            if let Some(table) = row.table {
                let own = table
                    .columns
                    .iter()
                    .any(|column| column.name == "Age" || column.kind == "date");
                assert!(own || row.kind == "Event", "{name} has no age");
                assert_eq!(
                    (table.cells)(&new, "2026-01-01T00:00:00Z").len(),
                    table.columns.len(),
                    "{name}"
                );
            }
        }
        let answered = matches!(row.serving, Serving::Stored) || row.table.is_none();
        assert!(answered, "{name}: nothing is stored that could be shown");
        let protects = row.protection.is_none_or(|finalizer| finalizer.contains('/'));
        assert!(protects, "{name}: a finalizer is a qualified name");
        assert!(
            !row.scale || row.status != Status::None,
            "{name}: replicas are in its status"
        );
    }
}
