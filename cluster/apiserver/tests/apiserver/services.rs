use std::collections::BTreeSet;

use afloat_apiserver::{ApiServer, Options};
use afloat_store::Store;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::{object, refusal};

fn service(name: &str, spec: Value) -> Service {
    let mut service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}});
    for (key, value) in spec.as_object().unwrap() {
        service["spec"][key] = value.clone();
    }
    object(service)
}

fn ip(service: &Service) -> String {
    service.spec.as_ref().unwrap().cluster_ip.clone().unwrap_or_default()
}

fn node_port(service: &Service) -> Option<i32> {
    service
        .spec
        .as_ref()
        .unwrap()
        .ports
        .as_ref()
        .unwrap()
        .first()
        .unwrap()
        .node_port
}

#[tokio::test]
async fn addresses_are_given_kept_and_given_back() {
    let store = Store::memory();
    // 10.96.0.1 to .14; one small range shows what happens when it is used up.
    let options = Options {
        service_cidr: ("10.96.0.0".parse().unwrap(), 28),
        ..Options::default()
    };
    let server = ApiServer::new(store.clone(), options.clone()).await.unwrap();
    let services = Api::<Service>::namespaced(server.client("tester"), "default");
    let post = PostParams::default();
    let given = services
        .create(&post, &service("given", json!({"clusterIP": "10.96.0.1"})))
        .await
        .unwrap();
    assert_eq!(ip(&given), "10.96.0.1");
    let (code, _, message) = refusal(
        services
            .create(&post, &service("taken", json!({"clusterIP": "10.96.0.1"})))
            .await,
    );
    assert!(
        code == 422 && message.contains("provided IP is already allocated"),
        "{message}"
    );
    let headless = services
        .create(&post, &service("headless", json!({"clusterIP": "None"})))
        .await
        .unwrap();
    assert_eq!(ip(&headless), "None");
    let mut all = BTreeSet::from([ip(&given)]);
    for n in 0..13 {
        all.insert(ip(&services
            .create(&post, &service(&format!("s{n}"), json!({})))
            .await
            .unwrap()));
    }
    assert_eq!(all.len(), 14);
    assert!(
        refusal(services.create(&post, &service("full", json!({}))).await)
            .2
            .contains("range is full")
    );

    // A new server remembers them, and an address that is given back can be had again.
    let server = ApiServer::new(store, options).await.unwrap();
    let services = Api::<Service>::namespaced(server.client("tester"), "default");
    refusal(services.create(&post, &service("full", json!({}))).await);
    services.delete("s3", &DeleteParams::default()).await.unwrap();
    services.create(&post, &service("full", json!({}))).await.unwrap();
}

#[tokio::test]
async fn an_update_keeps_what_was_given() {
    let (_server, client) = super::server().await;
    let services = Api::<Service>::namespaced(client, "default");
    let first = services
        .create(&PostParams::default(), &service("s", json!({"type": "NodePort"})))
        .await
        .unwrap();
    assert!((30000..=32767).contains(&node_port(&first).unwrap()));
    // A PUT that leaves out what the server gave.
    let again = services
        .replace(
            "s",
            &PostParams::default(),
            &service("s", json!({"type": "NodePort", "selector": {"a": "b"}})),
        )
        .await
        .unwrap();
    assert_eq!((ip(&again), node_port(&again)), (ip(&first), node_port(&first)));
    // And if nothing else changes, nothing is written.
    let body = service("s", json!({"type": "NodePort", "selector": {"a": "b"}}));
    let same = services.replace("s", &PostParams::default(), &body).await.unwrap();
    assert_eq!(same.metadata.resource_version, again.metadata.resource_version);
    let moved = json!({"spec": {"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}});
    assert_eq!(
        refusal(
            services
                .patch("s", &PatchParams::default(), &Patch::Merge(&moved))
                .await
        )
        .0,
        422
    );
    let inner = services
        .replace("s", &PostParams::default(), &service("s", json!({"type": "ClusterIP"})))
        .await
        .unwrap();
    assert_eq!((ip(&inner), node_port(&inner)), (ip(&first), None));
    let port = node_port(&first).unwrap();
    let other = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    assert_eq!(
        node_port(
            &services
                .create(&PostParams::default(), &service("t", other))
                .await
                .unwrap()
        ),
        Some(port)
    );
}
