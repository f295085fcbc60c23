//! Calls of webhooks, over HTTPS: by URL, or by the address of a Service under its name. Connections are kept for the next
//! call; a call has a limit of time and its answer one of size.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Limited};
use hyper_util::client::legacy::Client as LegacyClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::client::{Body, ConfigExt as _};
use kube::{Client, Config};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio::time::timeout;

use crate::options::WebhookDialer;

/// The longest that any webhook may take, as the original has it.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const BODY_LIMIT: usize = 256 << 20;
/// Clients kept. A cluster has a handful of definitions with webhooks; beyond that all are made anew.
const CLIENTS: usize = 64;

/// See the module.
pub(crate) struct Webhooks {
    /// By who calls for them (a definition, an admission webhook), with what they were made for.
    clients: Mutex<BTreeMap<String, (Target, Client)>>,
    /// How hosts of URLs are reached; None: from where this process is.
    dialer: Option<Arc<dyn WebhookDialer>>,
}

/// Where a webhook is.
#[derive(Clone, Debug, PartialEq)]
struct Target {
    /// What is asked, as messages show it.
    url: String,
    /// Where connections go to, if not to the host of the URL.
    address: Option<String>,
    /// The host of the URL, whose certificate is expected.
    host: String,
    authorities: Option<String>,
}

impl Webhooks {
    pub(crate) fn new(dialer: Option<Arc<dyn WebhookDialer>>) -> Self {
        Self {
            clients: Mutex::default(),
            dialer,
        }
    }

    /// Asks in the name of `caller`; `service` finds a Service by namespace and name. The error is what stands behind "failed: " in the
    /// original's sentence.
    pub(crate) async fn ask(
        &self,
        service: impl Fn(&str, &str) -> Option<Value> + Send,
        (caller, config): (&str, &Value),
        limit: Duration,
        question: &Value,
    ) -> Result<Value, String> {
        let url = shown(config);
        let seconds = limit.as_secs();
        let failed = |why: String| format!("Post \"{url}?timeout={seconds}s\": {why}");
        let target = target(service, config).map_err(&failed)?;
        let client = self.client(caller, target).map_err(&failed)?;
        let asked = async {
            let response = match client.send(post(&url, seconds, question).map_err(&failed)?).await {
                // A kept connection may have been closed a moment ago. Whoever is asked twice must say the same twice: to convert is
                // without effects, and what admission webhooks do they have to do again anyhow, where a write is tried anew.
                Err(_) => client.send(post(&url, seconds, question).map_err(&failed)?).await,
                answered => answered,
            };
            let response = response.map_err(|error| failed(cause(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_LIMIT).collect().await;
            let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
            if !status.is_success() {
                return Err(refused(status.as_u16(), &String::from_utf8_lossy(&body)));
            }
            serde_json::from_slice(&body).map_err(|error| format!("the answer is no JSON: {error}"))
        };
        let late = || failed("context deadline exceeded".to_owned());
        timeout(limit, asked).await.unwrap_or_else(|_| Err(late()))
    }

    fn client(&self, caller: &str, target: Target) -> Result<Client, String> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = clients.get(caller).filter(|(known, _)| *known == target) {
            return Ok(client.clone());
        }
        let client = made(&target, self.dialer.clone())?;
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.insert(caller.to_owned(), (target, client.clone()));
        Ok(client)
    }
}

fn post(url: &str, seconds: u64, question: &Value) -> Result<http::Request<Body>, String> {
    http::Request::post(format!("{}?timeout={seconds}s", path(url)))
        .header(http::header::CONTENT_TYPE, "application/json")
        .header(http::header::ACCEPT, "application/json")
        .body(Body::from(question.to_string().into_bytes()))
        .map_err(|error| error.to_string())
}

fn made(target: &Target, dialer: Option<Arc<dyn WebhookDialer>>) -> Result<Client, String> {
    let base = match &target.address {
        Some(address) => format!("https://{address}"),
        None => target
            .url
            .strip_suffix(path(&target.url))
            .unwrap_or(&target.url)
            .to_owned(),
    };
    let mut config = Config::new(base.parse().map_err(|error| format!("{base}: {error}"))?);
    config.connect_timeout = Some(LIMIT);
    config.read_timeout = Some(LIMIT);
    config.write_timeout = Some(LIMIT);
    config.tls_server_name = target.address.as_ref().map(|_| target.host.clone());
    if let Some(bundle) = &target.authorities {
        let pem = STANDARD.decode(bundle).map_err(|error| format!("caBundle: {error}"))?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let all = all.map_err(|error| format!("caBundle: {error}"))?;
        config.root_cert = Some(all.into_iter().map(|der| der.to_vec()).collect());
    }
    let client = match dialer.filter(|_| target.address.is_none()) {
        Some(dialer) => dialled(&config, dialer),
        None => Client::try_from(config),
    };
    client.map_err(|error| error.to_string())
}

/// A client whose connections somebody else opens.
fn dialled(config: &Config, dialer: Arc<dyn WebhookDialer>) -> kube::Result<Client> {
    let connector = tower::service_fn(move |uri: http::Uri| {
        let dialer = dialer.clone();
        async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let stream = dialer.dial(&host, uri.port_u16().unwrap_or(443)).await?;
            io::Result::Ok(TokioIo::new(stream))
        }
    });
    let connector = config.rustls_https_connector_with_connector(connector)?;
    let service = LegacyClient::builder(TokioExecutor::new()).build(connector);
    let service = tower::ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .service(service);
    Ok(Client::new(service, "default"))
}

/// The URL of a webhook; that of a Service is made of its name.
fn shown(config: &Value) -> String {
    let service = &config["service"];
    match config["url"].as_str() {
        Some(url) => url.to_owned(),
        None => {
            let text = |key: &str| service[key].as_str().unwrap_or_default();
            let (host, port) = (host(service), service["port"].as_u64().unwrap_or(443));
            let path = text("path");
            let slash = if path.starts_with('/') { "" } else { "/" };
            format!("https://{host}:{port}{slash}{path}")
        }
    }
}

/// The name by which a Service's certificate is expected.
fn host(service: &Value) -> String {
    let text = |key: &str| service[key].as_str().unwrap_or_default();
    format!("{}.{}.svc", text("name"), text("namespace"))
}

/// What follows on scheme and authority.
fn path(url: &str) -> &str {
    let rest = url.strip_prefix("https://").unwrap_or(url);
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
}

/// Where a webhook is; a Service is looked up.
fn target(find: impl Fn(&str, &str) -> Option<Value>, config: &Value) -> Result<Target, String> {
    let authorities = config["caBundle"]
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned);
    let url = shown(config);
    if config["url"].is_string() {
        let host = String::new();
        return Ok(Target {
            url,
            address: None,
            host,
            authorities,
        });
    }
    let service = &config["service"];
    let text = |key: &str| service[key].as_str().unwrap_or_default();
    let name = text("name");
    let found = find(text("namespace"), name);
    let found = found.ok_or_else(|| format!("service {name:?} not found"))?;
    let port = service["port"].as_u64().unwrap_or(443);
    let address = found["spec"]["clusterIP"].as_str().unwrap_or_default();
    if address.is_empty() || address == "None" {
        return Err(format!("cannot route to service with ClusterIP {address:?}"));
    }
    let mut ports = found["spec"]["ports"].as_array().into_iter().flatten();
    if !ports.any(|known| known["port"].as_u64() == Some(port)) {
        return Err(format!("no service port {port} found for service {name:?}"));
    }
    let bracketed = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    Ok(Target {
        url,
        address: Some(format!("{bracketed}:{port}")),
        host: host(service),
        authorities,
    })
}

/// The innermost reason of a failure, which is what the original shows.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// What client-go makes of an answer that is no success.
fn refused(code: u16, body: &str) -> String {
    match code {
        404 => "the server could not find the requested resource".to_owned(),
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        500.. => format!(
            "an error on the server ({:?}) has prevented the request from succeeding",
            body.trim()
        ),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_and_services() {
        let service = json!({"service": {"namespace": "n", "name": "s", "path": "/convert"}});
        assert_eq!(shown(&service), "https://s.n.svc:443/convert");
        assert_eq!(
            shown(&json!({"service": {"namespace": "n", "name": "s", "port": 8443}})),
            "https://s.n.svc:8443/"
        );
        assert_eq!(
            shown(&json!({"url": "https://h:1/c/d", "service": null})),
            "https://h:1/c/d"
        );
        for (url, rest) in [
            ("https://h:1/c/d", "/c/d"),
            ("https://h", ""),
            ("https://[::1]:9/x", "/x"),
        ] {
            assert_eq!(path(url), rest);
        }
    }
}
