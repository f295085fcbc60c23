//! Roles and bindings: what is there from the start, and what nobody can give away.

use afloat_apiserver::{ApiServer, InProcess, Options, User};
use afloat_store::Store;
use kube::Client;
use serde_json::{Value, json};

use super::raw;

const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

async fn server(store: &Store) -> (ApiServer, Client) {
    let server = ApiServer::new(store.clone(), Options::default()).await.unwrap();
    let client = server.client("admin");
    (server, client)
}

async fn ask(client: &Client, method: &str, uri: &str, body: &Value) -> (u16, Value) {
    let kind = if method == "PATCH" {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let (code, text) = raw(client, method, uri, &[("content-type", kind)], &body).await;
    (code, serde_json::from_str(&text).unwrap_or_default())
}

/// A folder of before has no roles at all, and one of a while ago has what people made of them.
#[tokio::test]
async fn what_every_cluster_has_comes_back_and_takes_nothing_away() {
    let store = Store::memory();
    let (_first, client) = server(&store).await;
    let proxier = format!("{ROLES}/system:node-proxier");
    let own = json!({"rules": [{"apiGroups": ["mine"], "resources": ["things"], "verbs": ["get"]}]});
    assert_eq!(ask(&client, "PATCH", &proxier, &own).await.0, 200);
    let kept =
        json!({"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}, "rules": null});
    assert_eq!(
        ask(&client, "PATCH", &format!("{ROLES}/system:kube-dns"), &kept)
            .await
            .0,
        200
    );
    for gone in [
        format!("{ROLES}/system:basic-user"),
        format!("{BINDINGS}/system:discovery"),
    ] {
        assert_eq!(ask(&client, "DELETE", &gone, &Value::Null).await.0, 200, "{gone}");
    }
    let (_second, client) = server(&store).await;
    for back in [
        format!("{ROLES}/system:basic-user"),
        format!("{BINDINGS}/system:discovery"),
    ] {
        assert_eq!(ask(&client, "GET", &back, &Value::Null).await.0, 200, "{back}");
    }
    let rules = ask(&client, "GET", &proxier, &Value::Null).await.1["rules"].clone();
    assert_eq!(rules[0]["apiGroups"], json!(["mine"]));
    assert!(rules.as_array().unwrap().len() > 1, "{rules}");
    let left = ask(&client, "GET", &format!("{ROLES}/system:kube-dns"), &Value::Null)
        .await
        .1;
    assert!(left["rules"].as_array().is_none_or(Vec::is_empty), "{left}");
}

#[tokio::test]
async fn nobody_gives_away_what_they_have_not() {
    let (server, admin) = server(&Store::memory()).await;
    let writer = json!({"metadata": {"name": "writer"}, "rules": [{"apiGroups": ["rbac.authorization.k8s.io"],
        "resources": ["clusterroles", "clusterrolebindings"], "verbs": ["create", "get", "update", "patch"]}]});
    assert_eq!(ask(&admin, "POST", ROLES, &writer).await.0, 201);
    let bound = |name: &str, role: &str, user: &str| json!({"metadata": {"name": name}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [{"kind": "User", "name": user}]});
    assert_eq!(ask(&admin, "POST", BINDINGS, &bound("w", "writer", "w")).await.0, 201);
    let own = Client::new(InProcess::new(server.clone(), User::named("w", &[])), "default");
    let (code, answer) = ask(&own, "POST", BINDINGS, &bound("more", "cluster-admin", "w")).await;
    assert_eq!(code, 403, "{answer}");
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("permissions not currently held"),
        "{answer}"
    );
    assert_eq!(ask(&own, "POST", BINDINGS, &bound("same", "writer", "x")).await.0, 201);
    let more = json!({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]});
    assert_eq!(ask(&own, "PATCH", &format!("{ROLES}/writer"), &more).await.0, 403);
    assert_eq!(ask(&admin, "PATCH", &format!("{ROLES}/writer"), &more).await.0, 200);
    // Which role a binding gives cannot be changed by anybody.
    let other =
        json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}});
    let (code, answer) = ask(&admin, "PATCH", &format!("{BINDINGS}/w"), &other).await;
    assert!(
        code == 422 && answer["message"].as_str().unwrap().contains("cannot change roleRef"),
        "{answer}"
    );
}
