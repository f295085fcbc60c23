//! A request that is passed on to another server (a kubelet, or what runs in a pod), and the answer on its way back.

use std::io;

use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::options::ByteStream;
use crate::wire::body::Body;

/// Headers that concern one connection only (RFC 9110, 7.6.1); those of `Expect` are answered here.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
];

/// The head of an answer may be so long.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Takes away what concerns one connection, and what `Connection` names besides.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The headers of a request as another server gets them. Who asks is nobody else's business.
pub(crate) fn passed_on(headers: &HeaderMap, upgrading: bool) -> HeaderMap {
    let mut passed = headers.clone();
    strip(&mut passed);
    passed.remove(header::HOST);
    passed.remove(header::AUTHORIZATION);
    if upgrading && let Some(to) = headers.get(header::UPGRADE) {
        passed.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        passed.insert(header::UPGRADE, to.clone());
    }
    passed
}

/// Sends a request on a new connection; the connection ends when the answer has been read, or what it was upgraded to is closed.
///
/// # Errors
/// What went wrong on the way, an answer that is none included.
pub(crate) async fn send(stream: Box<dyn ByteStream>, request: Request<Body>) -> io::Result<Response<Incoming>> {
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection.with_upgrades().boxed());
    sender.send_request(request).await.map_err(io::Error::other)
}

/// Turns another server's answer into ours. Where both sides switch protocols their streams are joined, and `guard` is kept until they
/// are closed; a client in this process has no connection to switch and is handed the other's stream itself.
pub(crate) fn answer(
    mut response: Response<Incoming>,
    client: Option<OnUpgrade>,
    guard: impl Send + 'static,
) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(client) = client {
            let other = hyper::upgrade::on(&mut response);
            tokio::spawn(FutureExt::boxed(async move {
                let _guard = guard;
                match tokio::try_join!(client, other) {
                    Ok((client, other)) => {
                        let (mut client, mut other) = (TokioIo::new(client), TokioIo::new(other));
                        // Either side may hang up at any time; there is nobody to tell.
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut other).await;
                    }
                    Err(error) => tracing::debug!(%error, "an upgraded stream was not established"),
                }
            }));
        }
        return response.map(|body| body.map_err(Into::into).boxed_unsync());
    }
    strip(response.headers_mut());
    response.map(|body| crate::wire::body::held(body.map_err(Into::into).boxed_unsync(), guard))
}
