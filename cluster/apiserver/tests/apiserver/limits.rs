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
