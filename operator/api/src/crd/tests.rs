use super::*;

fn every_mode() -> [Serving; 4] {
    let url = Some(Door::Url("https://operator.example:9443/convert".into()));
    [
        Serving::default(),
        Serving::v1beta1(),
        Serving {
            stored: Version::V1alpha1,
            ..Serving::default()
        },
        Serving {
            webhook: url,
            ..Serving::default()
        },
    ]
}

/// The YAML that people install must be what the code says. `UPDATE_EXPECT=1 cargo test -p afloat-api` rewrites it.
#[test]
fn golden_files_match() {
    for crd in definitions(&Serving::default()) {
        let name = crd["spec"]["names"]["plural"].as_str().unwrap().to_owned();
        let text = serde_saphyr::to_string(&crd).unwrap();
        expect_test::expect_file![format!("{}/crds/{name}.yaml", env!("CARGO_MANIFEST_DIR"))].assert_eq(&text);
    }
}

#[test]
fn one_version_is_stored() {
    for serving in every_mode() {
        for crd in crds(&serving) {
            assert_eq!(crd.spec.versions.iter().filter(|version| version.storage).count(), 1);
        }
    }
}

#[test]
fn who_converts_follows_from_what_is_served() {
    for serving in every_mode() {
        let crd = crds(&serving).remove(0);
        let served: Vec<_> = crd.spec.versions.iter().filter(|version| version.served).collect();
        let conversion = crd.spec.conversion.unwrap();
        assert_eq!(conversion.strategy == "Webhook", served.len() > 1);
        assert_eq!(conversion.webhook.is_some(), served.len() > 1);
        // Where there is one, exactly one way leads to it.
        if let Some(config) = conversion.webhook.and_then(|webhook| webhook.client_config) {
            assert_ne!(config.url.is_some(), config.service.is_some());
        }
    }
}

#[test]
fn templates_can_be_left_alone() {
    let defaults = |definition: &Value| {
        let template = "/schema/openAPIV3Schema/properties/spec/properties/template";
        let versions = definition["spec"]["versions"].as_array().unwrap();
        let templates = versions
            .iter()
            .map(|version| version.pointer(template).unwrap().to_string());
        templates.filter(|text| text.contains("\"default\"")).count()
    };
    assert_eq!(defaults(&definitions(&Serving::default()).remove(0)), 2);
    let left = Serving {
        template_defaults: false,
        ..Serving::default()
    };
    let definition = definitions(&left).remove(0);
    assert_eq!(defaults(&definition), 0);
    assert!(definition.to_string().contains("\"default\":\"20%\""), "others stay");
}

/// OpenKruise's v1alpha1 lacks some fields, and a client of it would take them away.
#[test]
fn both_versions_of_a_stateful_set_keep_the_same_fields() {
    for serving in every_mode() {
        let definitions = definitions(&serving);
        let definition = definitions
            .iter()
            .find(|definition| definition["spec"]["names"]["kind"] == "StatefulSet");
        let versions = &definition.unwrap()["spec"]["versions"];
        assert_eq!(versions[0]["schema"], versions[1]["schema"]);
        let spec = &versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert!(spec["properties"]["reserveOrdinals"].is_object());
    }
}
