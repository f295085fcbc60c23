//! HTTP/1.1 requests, with TLS where the server has it. One connection is used again for the next request.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Empty;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::rustls::{self, ClientConfig};

use super::PullError;
use super::hosts::{RegistryOptions, Scheme, Server, may_be_plain, without_port};
use super::network::Network;
use super::tls::trusting;

/// How long a server may take to begin its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// An unused connection is kept no longer.
const IDLE: Duration = Duration::from_secs(20);

type HttpClient = Client<HttpsConnector<Dialer>, Empty<Bytes>>;
type Body = hyper::body::Incoming;

/// Sends requests.
pub(super) struct Transport {
    network: Arc<dyn Network>,
    pub(super) options: RegistryOptions,
    /// Made at the first use: reading the system's authorities takes time and memory.
    client: OnceCell<(HttpClient, Arc<ClientConfig>)>,
    /// What servers that need not speak TLS were found to speak.
    schemes: Mutex<HashMap<String, &'static str>>,
}

impl Transport {
    pub(super) fn new(network: Arc<dyn Network>, options: RegistryOptions) -> Self {
        Self {
            network,
            options,
            client: OnceCell::new(),
            schemes: Mutex::default(),
        }
    }

    async fn client(&self) -> Result<&(HttpClient, Arc<ClientConfig>), PullError> {
        let make = async || {
            let authorities = self.options.authorities.clone();
            let config = tokio::task::spawn_blocking(move || trusting(&authorities))
                .await
                .map_err(|e| PullError::Local(e.to_string()))??;
            let connector = hyper_rustls::HttpsConnectorBuilder::new()
                .with_tls_config(config.clone())
                .https_or_http()
                .enable_http1()
                .wrap_connector(Dialer(self.network.clone()));
            let client = Client::builder(TokioExecutor::new())
                .pool_timer(hyper_util::rt::TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .build(connector);
            Ok((client, Arc::new(config)))
        };
        self.client.get_or_try_init(make).await
    }

    /// Sends a request and waits for the beginning of the answer.
    ///
    /// # Errors
    /// No answer; `true` in the second place: trying again may help.
    pub(super) async fn send(&self, request: http::Request<Empty<Bytes>>) -> Result<http::Response<Body>, PullError> {
        let uri = request.uri().clone();
        let host = uri.authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
        let (client, _) = self.client().await?;
        match tokio::time::timeout(ANSWER_LIMIT, client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(PullError::Unavailable(format!("registry {host}: {}", causes(&error)))),
            Err(_) => Err(PullError::Unavailable(format!(
                "registry {host} did not answer within {} s",
                ANSWER_LIMIT.as_secs()
            ))),
        }
    }

    /// `http` or `https`, found out where it is not known: TLS is tried first, and only a server that does not speak it at
    /// all is spoken to without. A certificate that is not good stays an error.
    pub(super) async fn scheme(&self, server: &Server) -> Result<&'static str, PullError> {
        match server.scheme {
            Scheme::Http => return Ok("http"),
            Scheme::Https => return Ok("https"),
            Scheme::Either => {}
        }
        let known = |map: &Mutex<HashMap<_, _>>| {
            let map = map.lock().unwrap_or_else(PoisonError::into_inner);
            map.get(&server.host).copied()
        };
        if let Some(scheme) = known(&self.schemes) {
            return Ok(scheme);
        }
        let (_, config) = self.client().await?;
        let probing = self.probe(&server.host, config.clone());
        let scheme = match tokio::time::timeout(ANSWER_LIMIT, probing).await {
            Ok(result) => result.map_err(|e| PullError::Unavailable(format!("registry {}: {e}", server.host)))?,
            Err(_) => {
                return Err(PullError::Unavailable(format!(
                    "registry {} did not answer within {} s",
                    server.host,
                    ANSWER_LIMIT.as_secs()
                )));
            }
        };
        self.schemes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(server.host.clone(), scheme);
        Ok(scheme)
    }

    async fn probe(&self, host: &str, config: Arc<ClientConfig>) -> io::Result<&'static str> {
        let uri: Uri = format!("https://{host}/").parse().map_err(io::Error::other)?;
        let stream = dial(&*self.network, &uri).await?;
        let name = rustls::pki_types::ServerName::try_from(without_port(host).to_owned()).map_err(io::Error::other)?;
        match tokio_rustls::TlsConnector::from(config).connect(name, stream).await {
            Ok(_) => Ok("https"),
            Err(error) if speaks_no_tls(&error) => Ok("http"),
            Err(error) => Err(error),
        }
    }

    /// Whether an address may be asked without TLS.
    pub(super) fn allows_plain(&self, uri: &Uri) -> bool {
        uri.authority()
            .is_some_and(|host| may_be_plain(host.as_str(), &self.options))
    }
}

fn speaks_no_tls(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidMessage(_)))
        || matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        )
}

/// All of an error's causes in one line.
pub(super) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Connects for hyper.
#[derive(Clone)]
struct Dialer(Arc<dyn Network>);

impl tower_service::Service<Uri> for Dialer {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let network = self.0.clone();
        Box::pin(async move { dial(&*network, &uri).await.map(TokioIo::new) })
    }
}

async fn dial(network: &dyn Network, uri: &Uri) -> io::Result<TcpStream> {
    let host = uri.host().ok_or_else(|| io::Error::other("no host"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri
        .port_u16()
        .unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    let addresses = match host.parse::<IpAddr>() {
        Ok(ip) => vec![ip],
        Err(_) => {
            let found = network.resolve(host).await;
            found.map_err(|e| io::Error::new(e.kind(), format!("cannot resolve {host}: {e}")))?
        }
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    for ip in addresses {
        let address = SocketAddr::new(ip, port);
        match network.connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = io::Error::new(error.kind(), format!("cannot connect to {address}: {error}")),
        }
    }
    Err(last)
}
