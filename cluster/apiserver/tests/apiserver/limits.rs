//! What a client may ask for, and what it gets of it.

use serde_json::{Value, json};

use super::{config_map, raw as send, server};

/// Asks for a form, or sends JSON.
async fn raw(client: &kube::Client, method: &str, uri: &str, form: &str, body: &str) -> (u16, String) {
    let headers = [("accept", form), ("content-type", "application/json")];
    send(client, method, uri, &headers, body).await
}

/// A list longer than what is made at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_whole_in_every_form() {
    let (_server, client) = server().await;
    for number in 0..40 {
        let mut map = config_map(&format!("m{number}"));
        let text = format!("first\n  second: \"{number}\"\n{}\n", "x".repeat(20_000));
        map.data.get_or_insert_default().insert("text".into(), text);
        let api: kube::Api<k8s_openapi::api::core::v1::ConfigMap> = kube::Api::default_namespaced(client.clone());
        api.create(&kube::api::PostParams::default(), &map).await.unwrap();
    }
    let path = "/api/v1/namespaces/default/configmaps";
    let (code, whole) = raw(&client, "GET", path, "application/json", "").await;
    let whole: Value = serde_json::from_str(&whole).unwrap();
    let items = whole["items"].as_array().unwrap();
    assert_eq!((code, items.len(), &whole["kind"]), (200, 40, &json!("ConfigMapList")));
    let (_, yaml) = raw(&client, "GET", path, "application/yaml", "").await;
    let yaml: Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(yaml, whole);
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let (_, rows) = raw(&client, "GET", path, table, "").await;
    let rows: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!(
        (rows["rows"].as_array().unwrap().len(), &rows["kind"]),
        (40, &json!("Table"))
    );
    assert_eq!(rows["rows"][0]["object"]["metadata"], items[0]["metadata"]);
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let (_, partial) = raw(&client, "GET", path, partial, "").await;
    let partial: Value = serde_json::from_str(&partial).unwrap();
    assert_eq!(partial["items"][39]["metadata"], items[39]["metadata"]);
    assert_eq!(partial["metadata"], whole["metadata"]);

    // Pages through a selector, none longer than asked for.
    let mut next = String::new();
    let mut names = Vec::new();
    loop {
        let page = format!("{path}?limit=7&fieldSelector=metadata.name!%3Dm3&continue={next}");
        let (_, page) = raw(&client, "GET", &page, "application/json", "").await;
        let page: Value = serde_json::from_str(&page).unwrap();
        let items = page["items"].as_array().unwrap();
        assert!(!items.is_empty() && items.len() <= 7, "{}", items.len());
        names.extend(items.iter().map(|item| item["metadata"]["name"].clone()));
        match page["metadata"]["continue"].as_str() {
            Some(more) => next = more.to_owned(),
            None => break,
        }
    }
    names.dedup();
    assert_eq!(names.len(), 39);
    let nothing = format!("{path}?limit=1&labelSelector=no%3Dsuch");
    let (_, nothing) = raw(&client, "GET", &nothing, "application/json", "").await;
    let nothing: Value = serde_json::from_str(&nothing).unwrap();
    assert_eq!(
        (&nothing["items"], &nothing["metadata"]["continue"]),
        (&json!([]), &Value::Null)
    );
}

#[tokio::test]
async fn what_is_too_much_is_refused_in_the_originals_words() {
    let (_server, client) = server().await;
    let path = "/api/v1/namespaces/default/configmaps";
    let (code, told) = raw(&client, "GET", &format!("{path}?timeout=soon"), "application/json", "").await;
    assert_eq!(code, 400);
    let words = "invalid timeout specified in the request URL - time: invalid duration \\\"soon\\\"";
    assert!(told.contains(words), "{told}");
    // Half a megabyte of text that would be thirty of objects.
    let many = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "many"}, "data": vec![json!({"": 0}); 60_000]});
    let (code, told) = raw(&client, "POST", path, "application/json", &many.to_string()).await;
    assert_eq!(code, 413, "{told}");
    assert!(told.contains("\"reason\":\"RequestEntityTooLarge\""), "{told}");
    // As many values in a text are none.
    let text =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "text"}, "data": {"a": many.to_string()}});
    let (code, told) = raw(&client, "POST", path, "application/json", &text.to_string()).await;
    assert_eq!(code, 201, "{}", &told[..200]);
}

/// Beside Kubernetes 1.32.10, whose words these are.
#[tokio::test]
async fn requests_for_tokens_are_answered_in_the_originals_words() {
    let (_server, client) = server().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": "robot"}});
    raw(&client, "POST", accounts, "application/json", &account.to_string()).await;
    let pod = json!({"metadata": {"name": "p"}, "spec": {"serviceAccountName": "robot", "containers": [{"name": "a", "image": "b"}]}});
    let pods = "/api/v1/namespaces/default/pods";
    let (code, told) = raw(&client, "POST", pods, "application/json", &pod.to_string()).await;
    assert_eq!(code, 201, "{told}");
    let bound = |kind: &str, version: &str, name: &str, uid: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": version, "name": name, "uid": uid}});
    for (spec, code, words) in [
        (json!({}), 201, ""),
        (bound("Pod", "", "p", ""), 201, ""),
        (
            json!({"expirationSeconds": 599}),
            422,
            "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
        ),
        (
            bound("Pod", "v1", "p", "x"),
            409,
            "Operation cannot be fulfilled on Pod \"p\": the UID in the bound object reference (x) does not match",
        ),
        (
            bound("ConfigMap", "v1", "m", ""),
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (bound("Pod", "v1", "", ""), 400, "Name parameter required."),
    ] {
        let body = json!({"spec": spec}).to_string();
        let path = format!("{accounts}/robot/token");
        let (got, told) = raw(&client, "POST", &path, "application/json", &body).await;
        let told: Value = serde_json::from_str(&told).unwrap();
        let message = told["message"].as_str().unwrap_or_default();
        assert!(got == code && message.contains(words), "{spec}: {got} {told}");
    }
}

/// A PUT makes a role that is not there, as `kubectl replace` and `auth reconcile` expect; no other kind of these.
#[tokio::test]
async fn a_put_makes_a_role_that_is_not_there() {
    let (_server, client) = server().await;
    let role = json!({"metadata": {"name": "r", "namespace": "default"}, "rules": []});
    let path = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles/r";
    for code in [201, 200] {
        let (got, told) = raw(&client, "PUT", path, "application/json", &role.to_string()).await;
        assert_eq!(got, code, "{told}");
    }
    let map = json!({"metadata": {"name": "r", "namespace": "default"}});
    let path = "/api/v1/namespaces/default/configmaps/r";
    let (code, _) = raw(&client, "PUT", path, "application/json", &map.to_string()).await;
    assert_eq!(code, 404);
}
