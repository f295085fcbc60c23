//! The API server's port, for clients that behave as no library would.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Where it is, and who comes.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    config: ClientConfig,
}

/// A connection on which one request follows the other.
pub(super) struct Line(SendRequest<Full<Bytes>>);

fn decoded(text: &Value) -> Vec<u8> {
    STANDARD
        .decode(text.as_str().expect("in the kubeconfig"))
        .expect("base64")
}

impl Door {
    /// As the administrator of the cluster in a folder.
    pub(super) fn of(dir: &Path) -> Self {
        let text = std::fs::read_to_string(dir.join("kubeconfig")).expect("a kubeconfig");
        let file: Value = serde_saphyr::from_str(&text).expect("a kubeconfig");
        let (cluster, user) = (&file["clusters"][0]["cluster"], &file["users"][0]["user"]);
        let server = cluster["server"].as_str().expect("an address");
        let address = server.trim_start_matches("https://").parse().expect("an address");
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&decoded(&cluster["certificate-authority-data"])) {
            roots.add(certificate.expect("a certificate")).expect("an authority");
        }
        let chain = CertificateDer::pem_slice_iter(&decoded(&user["client-certificate-data"]))
            .map(|certificate| certificate.expect("a certificate"))
            .collect();
        let key = PrivateKeyDer::from_pem_slice(&decoded(&user["client-key-data"])).expect("a key");
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("a certificate");
        Self { address, config }
    }

    /// A connection on which nothing was said.
    pub(super) async fn knock(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.address).await
    }

    /// A connection after the handshake. `protocol`: `h2` or nothing.
    pub(super) async fn enter(&self, protocol: &[u8]) -> io::Result<TlsStream<TcpStream>> {
        let mut config = self.config.clone();
        config.alpn_protocols = if protocol.is_empty() {
            vec![]
        } else {
            vec![protocol.to_vec()]
        };
        let host = ServerName::from(self.address.ip());
        TlsConnector::from(Arc::new(config))
            .connect(host, self.knock().await?)
            .await
    }

    pub(super) async fn line(&self) -> io::Result<Line> {
        let stream = TokioIo::new(self.enter(b"").await?);
        let (sender, connection) = http1::handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Line(sender))
    }

    /// One request on a connection of its own.
    pub(super) async fn ask(&self, method: &str, path: &str, kind: &str, body: &Bytes) -> io::Result<(u16, Bytes)> {
        self.line().await?.ask(method, path, kind, body).await
    }
}

impl Line {
    pub(super) async fn ask(&mut self, method: &str, path: &str, kind: &str, body: &Bytes) -> io::Result<(u16, Bytes)> {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "afloat")
            .header("content-type", kind)
            .body(Full::new(body.clone()))
            .expect("a request");
        self.0.ready().await.map_err(io::Error::other)?;
        let answer = self.0.send_request(request).await.map_err(io::Error::other)?;
        let code = answer.status().as_u16();
        let body = answer.into_body().collect().await.map_err(io::Error::other)?;
        Ok((code, body.to_bytes()))
    }
}
