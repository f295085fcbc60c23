use std::time::Duration;

use afloat_apiserver::{ApiServer, Options};
use afloat_store::Store;
use futures::StreamExt as _;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use serde_json::{Value, json};

use super::{object, raw, refusal};

fn definition() -> CustomResourceDefinition {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"replicas": {"type": "integer", "minimum": 0, "default": 1}}},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
    }}});
    let subresources = json!({"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": schema, "subresources": subresources});
    object(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [version("v1alpha1", true), version("v1beta1", false)],
        },
    }))
}

fn widgets(client: &kube::Client, version: &str) -> Api<DynamicObject> {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", version, "Widget"), "widgets");
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn widget(spec: Value) -> DynamicObject {
    object(json!({"apiVersion": "example.com/v1alpha1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec}))
}

/// Makes a widget `w`: defaults are set, what is not defined is dropped or refused, all versions show the same object.
async fn takes_what_is_defined(client: &kube::Client) -> DynamicObject {
    let alpha = widgets(client, "v1alpha1");
    let made = alpha
        .create(&PostParams::default(), &widget(json!({"junk": true})))
        .await
        .unwrap();
    assert_eq!(made.data["spec"], json!({"replicas": 1}));
    let beta = widgets(client, "v1beta1").get("w").await.unwrap();
    assert_eq!(beta.types.unwrap().api_version, "example.com/v1beta1");
    let strict = PatchParams {
        field_validation: Some(kube::api::ValidationDirective::Strict),
        ..PatchParams::default()
    };
    let (code, _, message) = refusal(
        alpha
            .patch("w", &strict, &Patch::Merge(&json!({"spec": {"junk": 1}})))
            .await,
    );
    assert!(
        code == 422 && message.contains("unknown field \"spec.junk\""),
        "{message}"
    );
    let (code, _, message) = refusal(
        alpha
            .patch(
                "w",
                &PatchParams::default(),
                &Patch::Merge(&json!({"spec": {"replicas": -1}})),
            )
            .await,
    );
    assert!(code == 422 && message.contains("spec.replicas"), "{message}");
    let patch = json!({"spec": {"replicas": 3}});
    widgets(client, "v1beta1")
        .patch_scale("w", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .unwrap();
    let now = alpha.get("w").await.unwrap();
    assert_eq!(
        (now.data["spec"]["replicas"].clone(), now.metadata.generation),
        (json!(3), Some(2))
    );
    now
}

/// Deletes the definition, which has a widget.
async fn goes_with_its_objects(client: &kube::Client) {
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    definitions
        .delete("widgets.example.com", &DeleteParams::default())
        .await
        .unwrap();
    for _ in 0..200 {
        if definitions.get_opt("widgets.example.com").await.unwrap().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(definitions.get_opt("widgets.example.com").await.unwrap().is_none());
    let (code, _) = raw(
        client,
        "GET",
        "/apis/example.com/v1alpha1/namespaces/default/widgets",
        &[],
        "",
    )
    .await;
    assert_eq!(code, 404);
    // Made anew it is empty.
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    assert_eq!(refusal(widgets(client, "v1alpha1").get("w").await).0, 404);
}

#[tokio::test]
async fn a_definition_lives_and_dies_with_its_objects() {
    let store = Store::memory();
    let server = ApiServer::new(store.clone(), Options::default()).await.unwrap();
    let client = server.client("tester");
    let (code, _) = raw(
        &client,
        "GET",
        "/apis/example.com/v1alpha1/namespaces/default/widgets",
        &[],
        "",
    )
    .await;
    assert_eq!(code, 404);
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let made = definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let status = made.status.clone().unwrap();
    assert_eq!(status.stored_versions, Some(vec!["v1alpha1".to_owned()]));
    assert!(
        status
            .conditions
            .unwrap()
            .iter()
            .any(|c| c.type_ == "Established" && c.status == "True")
    );

    let again = definitions
        .replace("widgets.example.com", &PostParams::default(), &definition())
        .await
        .unwrap();
    assert_eq!(again.metadata.resource_version, made.metadata.resource_version);

    let now = takes_what_is_defined(&client).await;
    // A new server on the same store serves it, too.
    let again = ApiServer::new(store, Options::default()).await.unwrap();
    assert_eq!(
        widgets(&again.client("tester"), "v1beta1")
            .get("w")
            .await
            .unwrap()
            .metadata
            .uid,
        now.metadata.uid
    );

    goes_with_its_objects(&client).await;
}

#[tokio::test]
async fn discovery_knows_it() {
    let server = ApiServer::new(Store::memory(), Options::default()).await.unwrap();
    let client = server.client("tester");
    Api::<CustomResourceDefinition>::all(client.clone())
        .create(&PostParams::default(), &definition())
        .await
        .unwrap();
    let discovery = kube::Discovery::new(client.clone()).run_aggregated().await.unwrap();
    let (resource, capabilities) = discovery
        .resolve_gvk(&GroupVersionKind::gvk("example.com", "v1beta1", "Widget"))
        .unwrap();
    assert_eq!(resource.plural, "widgets");
    assert!(
        capabilities
            .subresources
            .iter()
            .any(|(sub, _)| sub.plural.ends_with("scale"))
    );
    let classic = kube::Discovery::new(client.clone()).run().await.unwrap();
    assert!(classic.has_group("example.com") && classic.has_group("apps") && classic.has_group(""));
    let (_, index) = raw(&client, "GET", "/openapi/v3", &[], "").await;
    assert!(index.contains("apis/example.com/v1beta1"), "{index}");
    let (_, document) = raw(&client, "GET", "/openapi/v3/apis/example.com/v1beta1", &[], "").await;
    assert!(document.contains("fieldValidation") && document.contains("com.example.v1beta1.Widget"));
}

#[tokio::test]
async fn a_custom_resource_is_not_replaced_blindly() {
    let server = ApiServer::new(Store::memory(), Options::default()).await.unwrap();
    let client = server.client("tester");
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    definitions.create(&PostParams::default(), &definition()).await.unwrap();
    let all = widgets(&client, "v1alpha1");
    let made = all.create(&PostParams::default(), &widget(json!({}))).await.unwrap();
    let blind = widget(json!({"replicas": 3}));
    let (code, reason, message) = refusal(all.replace("w", &PostParams::default(), &blind).await);
    assert_eq!((code, reason.as_str()), (422, "Invalid"));
    assert!(
        message.contains("metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"),
        "{message}"
    );
    all.replace("w", &PostParams::default(), &made).await.unwrap();
}

/// A default that comes after an object is seen by whoever reads it; the store has it once the object is written again, were it
/// without a change. Tried on kube-apiserver 1.32.
#[tokio::test(flavor = "multi_thread")]
async fn later_defaults_are_read_and_stored_with_the_next_write() {
    let server = ApiServer::new(Store::memory(), Options::default()).await.unwrap();
    let client = server.client("test");
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut definition = definition();
    definition.spec.versions.truncate(1);
    definitions.create(&PostParams::default(), &definition).await.unwrap();
    let widgets = widgets(&client, "v1alpha1");
    let made = widgets
        .create(&PostParams::default(), &widget(json!({})))
        .await
        .unwrap();
    let size = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size",
        "value": {"type": "integer", "default": 5}}]);
    let patch: Patch<()> = Patch::Json(serde_json::from_value(size).unwrap());
    definitions
        .patch("widgets.example.com", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let read = widgets.get("w").await.unwrap();
    assert_eq!(read.data["spec"], json!({"replicas": 1, "size": 5}));
    assert_eq!(read.metadata.resource_version, made.metadata.resource_version);
    let listed = widgets.list(&ListParams::default()).await.unwrap();
    assert_eq!(listed.items[0].data["spec"], read.data["spec"]);
    let mut watch = Box::pin(widgets.watch(&WatchParams::default(), "0").await.unwrap());
    let Some(Ok(WatchEvent::Added(seen))) = watch.next().await else {
        panic!("no object")
    };
    assert_eq!(seen.data["spec"], read.data["spec"]);
    let nothing = Patch::Merge(json!({}));
    let write = async || widgets.patch("w", &PatchParams::default(), &nothing).await.unwrap();
    let (first, second) = (write().await, write().await);
    assert_ne!(first.metadata.resource_version, made.metadata.resource_version);
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);
}
