//! Conversion webhooks of strangers' definitions, on Kubernetes' own API server and on the embedded one: the same inputs, the same
//! outcomes and words.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use afloat_apiserver::{ApiServer, Options};
use afloat_store::Store;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::Client;
use kube::api::{
    Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{self};

use crate::ground::create;
use crate::kube_apiserver::{KubeApiserver, client};
use crate::process::PATIENCE;

const NAME: &str = "gadgets.example.com";

pub(crate) async fn on_kube_apiserver() {
    if let Some(server) = KubeApiserver::start().await {
        strangers(client(&server.kubeconfig()).await.expect("a client")).await;
    }
}

pub(crate) async fn on_the_embedded_api_server() {
    let server = ApiServer::new(Store::memory(), Options::default())
        .await
        .expect("a server");
    strangers(server.client("tester")).await;
}

/// A webhook over HTTPS: v1 has `hostPort`, v2 has `host` and `port`.
struct Hook {
    url: String,
    bundle: String,
    /// Changes its answers.
    spoil: Arc<Mutex<fn(&mut Value)>>,
}

impl Hook {
    async fn start() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).expect("parameters");
        let certificate = params.self_signed(&key).expect("a certificate");
        let provider = Arc::new(ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = builder.expect("versions").with_no_client_auth();
        let config = config
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("TLS");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}/convert", listener.local_addr().expect("an address"));
        let good: fn(&mut Value) = |_| {};
        let spoil = Arc::new(Mutex::new(good));
        let spoilt = spoil.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (acceptor, spoilt) = (acceptor.clone(), spoilt.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| {
                        let spoilt = spoilt.clone();
                        async move { Ok::<_, Infallible>(answer(request, &spoilt).await) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    drop(http.serve_connection(TokioIo::new(stream), service).await);
                });
            }
        });
        Self {
            url,
            bundle: STANDARD.encode(certificate.pem()),
            spoil,
        }
    }

    fn answers(&self, spoil: fn(&mut Value)) {
        *self.spoil.lock().expect("a lock") = spoil;
    }
}

async fn answer(request: Request<Incoming>, spoil: &Mutex<fn(&mut Value)>) -> Response<Full<Bytes>> {
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    let question: Value = serde_json::from_slice(&body).expect("JSON");
    let mut objects = question["request"]["objects"].clone();
    for object in objects.as_array_mut().expect("objects") {
        let spec = object["spec"].as_object_mut().expect("a spec");
        if let Some(both) = spec.remove("hostPort") {
            let (host, port) = both.as_str().expect("text").split_once(':').expect("a colon");
            spec.insert("host".into(), host.into());
            spec.insert("port".into(), port.into());
        } else {
            let part = |part: Option<Value>| {
                part.and_then(|part| Some(part.as_str()?.to_owned()))
                    .unwrap_or_default()
            };
            let (host, port) = (part(spec.remove("host")), part(spec.remove("port")));
            spec.insert("hostPort".into(), format!("{host}:{port}").into());
        }
        object["apiVersion"] = question["request"]["desiredAPIVersion"].clone();
    }
    let mut answer = json!({"apiVersion": question["apiVersion"], "kind": question["kind"], "response": {
        "uid": question["request"]["uid"], "convertedObjects": objects, "result": {"status": "Success"}}});
    let spoil = *spoil.lock().expect("a lock");
    spoil(&mut answer);
    let body = Full::new(Bytes::from(answer.to_string()));
    let mut response = Response::new(body);
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

fn definition(config: &Value) -> Value {
    let version = |name: &str, storage: bool, fields: Value| {
        json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": fields},
            "status": {"type": "object", "properties": {"phase": {"type": "string"}}}}}}})
    };
    let text = json!({"type": "string"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": NAME},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"},
            "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": config, "conversionReviewVersions": ["v1"]}},
            "versions": [
                version("v1", true, json!({"hostPort": text, "size": {"type": "integer", "default": 1}})),
                version("v2", false, json!({"host": text, "port": text, "size": {"type": "integer"}})),
            ],
        },
    })
}

fn gadgets(client: &Client, version: &str) -> Api<DynamicObject> {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("example.com", version, "Gadget"), "gadgets");
    Api::namespaced_with(client.clone(), "default", &resource)
}

fn definitions(client: &Client) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    Api::all_with(client.clone(), &ApiResource::from_gvk(&gvk))
}

fn gadget(version: &str, name: &str, spec: Value) -> DynamicObject {
    let object = json!({"apiVersion": format!("example.com/{version}"), "kind": "Gadget", "metadata": {"name": name}, "spec": spec});
    serde_json::from_value(object).expect("a gadget")
}

fn refusal<T: std::fmt::Debug>(answer: kube::Result<T>) -> Option<(u16, String)> {
    match answer {
        Err(kube::Error::Api(status)) => Some((status.code, status.message.clone())),
        _ => None,
    }
}

/// A change of a definition takes a moment until it counts.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn strangers(client: Client) {
    let hook = Hook::start().await;
    let config = json!({"url": hook.url, "caBundle": hook.bundle});
    create(&client, definition(&config)).await;
    let (v1, v2) = (gadgets(&client, "v1"), gadgets(&client, "v2"));
    until("the new kind", async || v1.list(&ListParams::default()).await.ok()).await;

    reads_and_writes(&v1, &v2).await;
    failures(&client, &hook, &v1, &v2).await;
    stored_versions(&client, &v1, &v2).await;
}

async fn reads_and_writes(v1: &Api<DynamicObject>, v2: &Api<DynamicObject>) {
    let start = v2
        .list(&ListParams::default())
        .await
        .expect("a list")
        .metadata
        .resource_version;
    let made = v2
        .create(
            &PostParams::default(),
            &gadget("v2", "a", json!({"host": "h", "port": "1"})),
        )
        .await
        .expect("a gadget");
    // What is stored gets its version's defaults when it is read.
    assert_eq!(made.data["spec"], json!({"host": "h", "port": "1", "size": 1}));
    assert_eq!(
        made.types.as_ref().map(|types| types.api_version.as_str()),
        Some("example.com/v2")
    );
    let first = v1.get("a").await.expect("the gadget");
    assert_eq!(first.data["spec"], json!({"hostPort": "h:1", "size": 1}));
    v1.create(
        &PostParams::default(),
        &gadget("v1", "b", json!({"hostPort": "i:2", "size": 3})),
    )
    .await
    .expect("another");

    let list = v2.list(&ListParams::default()).await.expect("a list");
    let specs: Vec<_> = list.items.iter().map(|item| item.data["spec"].clone()).collect();
    assert_eq!(
        specs,
        [
            json!({"host": "h", "port": "1", "size": 1}),
            json!({"host": "i", "port": "2", "size": 3})
        ]
    );
    let watch = v2
        .watch(&WatchParams::default().timeout(30), &start.expect("a version"))
        .await
        .expect("a watch");
    let events: Vec<_> = watch.take(2).try_collect().await.expect("events");
    for event in events {
        assert!(
            matches!(&event, WatchEvent::Added(object) if object.data["spec"]["port"].is_string()),
            "{event:?}"
        );
    }
    let since = list.metadata.resource_version.expect("a version");
    let watch = v2
        .watch(&WatchParams::default().timeout(30), &since)
        .await
        .expect("a watch");
    let mut watch = watch.boxed();

    // A patch meets the object in the version in which it is sent.
    let patch = Patch::Merge(json!({"spec": {"port": "9"}}));
    let patched = v2.patch("a", &PatchParams::default(), &patch).await.expect("a patch");
    assert_eq!(
        (patched.data["spec"]["port"].clone(), patched.metadata.generation),
        (json!("9"), Some(2))
    );
    assert_eq!(v1.get("a").await.expect("the gadget").data["spec"]["hostPort"], "h:9");
    let event = watch.try_next().await.expect("an event").expect("an event");
    assert!(
        matches!(&event, WatchEvent::Modified(object) if object.data["spec"]["port"] == "9"),
        "{event:?}"
    );

    let phase = Patch::Merge(json!({"status": {"phase": "Up"}}));
    let told = v2
        .patch_status("a", &PatchParams::default(), &phase)
        .await
        .expect("a status");
    assert_eq!(
        (&told.data["status"]["phase"], told.metadata.generation),
        (&json!("Up"), Some(2))
    );
    let stale = PatchParams::default();
    let nothing = v2.patch("a", &stale, &Patch::Merge(json!({}))).await.expect("nothing");
    assert_eq!(
        nothing.metadata.resource_version, told.metadata.resource_version,
        "nothing is written for nothing"
    );
}

/// What is wrong with an answer, and the sentence that comes of it.
type Wrong = (fn(&mut Value), &'static str);

async fn failures(client: &Client, hook: &Hook, v1: &Api<DynamicObject>, v2: &Api<DynamicObject>) {
    let rows: [Wrong; 5] = [
        (
            |answer| {
                answer["response"] =
                    json!({"uid": answer["response"]["uid"], "result": {"status": "Failure", "message": "not today"}});
            },
            "conversion webhook for example.com/v1, Kind=Gadget failed: not today",
        ),
        (
            |answer| answer["response"]["uid"] = json!("other"),
            "conversion webhook for example.com/v1, Kind=Gadget failed: expected response.uid=",
        ),
        (
            |answer| answer["response"]["convertedObjects"] = json!([]),
            "conversion webhook for example.com/v1, Kind=Gadget returned 0 objects, expected 1",
        ),
        (
            |answer| answer["response"]["convertedObjects"][0]["metadata"]["name"] = json!("x"),
            "conversion webhook for example.com/v1, Kind=Gadget returned invalid object: must have the same name: a != x",
        ),
        (
            |answer| answer["response"]["convertedObjects"][0]["apiVersion"] = json!("example.com/v7"),
            "conversion webhook for example.com/v1, Kind=Gadget returned invalid object at index 0: invalid groupVersion \
             (expected example.com/v2, received example.com/v7)",
        ),
    ];
    for (spoil, sentence) in rows {
        hook.answers(spoil);
        let (code, message) = refusal(v2.get("a").await).expect("a refusal");
        assert_eq!(code, 500);
        assert!(message.starts_with(sentence), "{message}");
        v1.get("a").await.expect("the stored version goes on");
    }
    // Only labels and annotations are the webhook's.
    hook.answers(|answer| {
        let metadata = &mut answer["response"]["convertedObjects"][0]["metadata"];
        metadata["labels"] = json!({"new": "label"});
        metadata["generation"] = json!(77);
    });
    let changed = v2.get("a").await.expect("the gadget").metadata;
    assert_eq!(
        (changed.generation, changed.labels.expect("labels").len()),
        (Some(2), 1)
    );
    hook.answers(|_| {});

    // Nobody there.
    let nobody = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"url": "https://127.0.0.1:1/convert"}}}}});
    definitions(client)
        .patch(NAME, &PatchParams::default(), &Patch::Merge(&nobody))
        .await
        .expect("a patch");
    let sentence =
        "conversion webhook for example.com/v1, Kind=Gadget failed: Post \"https://127.0.0.1:1/convert?timeout=30s\": ";
    until("a refusal", async || {
        refusal(v2.get("a").await).filter(|(code, text)| *code == 500 && text.starts_with(sentence))
    })
    .await;
    let write = v2
        .create(
            &PostParams::default(),
            &gadget("v2", "c", json!({"host": "h", "port": "1"})),
        )
        .await;
    let (code, message) = refusal(write).expect("a refusal");
    assert!(
        code == 500 && message.contains("conversion webhook for example.com/v2, Kind=Gadget failed: Post"),
        "{message}"
    );
    let size = Patch::Merge(json!({"spec": {"size": 5}}));
    v1.patch("a", &PatchParams::default(), &size)
        .await
        .expect("the stored version is written as well");

    // A Service that is not there, and one that nobody may trust.
    let service = json!({"namespace": "default", "name": "nowhere", "path": "/convert"});
    let service = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"url": null, "service": service}}}}});
    definitions(client)
        .patch(NAME, &PatchParams::default(), &Patch::Merge(&service))
        .await
        .expect("a patch");
    let sentence = "conversion webhook for example.com/v1, Kind=Gadget failed: Post \"https://nowhere.default.svc:443/convert?timeout=30s\": \
         service \"nowhere\" not found";
    until("a refusal", async || {
        refusal(v2.get("a").await).filter(|(_, text)| text == sentence)
    })
    .await;
    let back = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"url": hook.url, "service": null}}}}});
    definitions(client)
        .patch(NAME, &PatchParams::default(), &Patch::Merge(&back))
        .await
        .expect("a patch");
    until("the webhook", async || v2.get("a").await.ok()).await;
    // A webhook needs exactly one address.
    let both =
        json!({"spec": {"conversion": {"webhook": {"clientConfig": {"service": {"namespace": "a", "name": "b"}}}}}});
    let refused = definitions(client)
        .patch(NAME, &PatchParams::default(), &Patch::Merge(&both))
        .await;
    let (code, message) = refusal(refused).expect("a refusal");
    let sentence = "spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required";
    assert!(code == 422 && message.contains(sentence), "{message}");
    let none = json!({"spec": {"conversion": {"strategy": "None"}}});
    let refused = definitions(client)
        .patch(NAME, &PatchParams::default(), &Patch::Merge(&none))
        .await;
    let (_, message) = refusal(refused).expect("a refusal");
    assert!(
        message.contains("spec.conversion.webhookClientConfig: Forbidden: should not be set"),
        "{message}"
    );
}

/// The storage version changes: objects are stored anew one by one, and then the old one may go.
async fn stored_versions(client: &Client, v1: &Api<DynamicObject>, v2: &Api<DynamicObject>) {
    let all = definitions(client);
    let mut now = all.get(NAME).await.expect("the definition");
    assert_eq!(now.data["status"]["storedVersions"], json!(["v1"]));
    let old = now.data["spec"]["versions"][0].take();
    let mut new = now.data["spec"]["versions"][1].take();
    let mut old = old;
    (old["storage"], new["storage"]) = (json!(false), json!(true));
    let versions = |versions: Value| Patch::Merge(json!({"spec": {"versions": versions}}));
    let changed = all
        .patch(NAME, &PatchParams::default(), &versions(json!([old, new])))
        .await
        .expect("a patch");
    assert_eq!(changed.data["status"]["storedVersions"], json!(["v1", "v2"]));
    let gone = all.patch(NAME, &PatchParams::default(), &versions(json!([new]))).await;
    let (code, message) = refusal(gone).expect("a refusal");
    let sentence = "status.storedVersions[0]: Invalid value: \"v1\": must appear in spec.versions";
    assert!(code == 422 && message.contains(sentence), "{message}");

    let before = v2.get("a").await.expect("the gadget").metadata;
    let touched = until("the new storage version", async || {
        let touched = v2
            .patch("a", &PatchParams::default(), &Patch::Merge(json!({})))
            .await
            .expect("a patch");
        (touched.metadata.resource_version != before.resource_version).then_some(touched)
    })
    .await;
    assert_eq!(touched.metadata.generation, before.generation, "nothing has changed");
    let again = v2
        .patch("a", &PatchParams::default(), &Patch::Merge(json!({})))
        .await
        .expect("a patch");
    assert_eq!(again.metadata.resource_version, touched.metadata.resource_version);
    assert_eq!(v1.get("a").await.expect("the gadget").data["spec"]["hostPort"], "h:9");
    v2.patch("b", &PatchParams::default(), &Patch::Merge(json!({})))
        .await
        .expect("a patch");

    let done = Patch::Merge(json!({"status": {"storedVersions": ["v2"]}}));
    all.patch_status(NAME, &PatchParams::default(), &done)
        .await
        .expect("a status");
    let left = all
        .patch(NAME, &PatchParams::default(), &versions(json!([new])))
        .await
        .expect("a patch");
    assert_eq!(left.data["status"]["storedVersions"], json!(["v2"]));
    assert_eq!(v2.get("a").await.expect("the gadget").data["spec"]["port"], "9");
}
