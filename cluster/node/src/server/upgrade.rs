//! Upgrades of a connection: to a WebSocket, or to SPDY, with the sub-protocol that both sides know.

use futures::FutureExt;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::answer::{Body, Refusal, full};
use super::socket::{self, Socket};
use crate::spdy::Session;

/// Names the sub-protocol where the upgrade is to SPDY.
const SPDY_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";
/// A sub-protocol of SPDY that is tunnelled in a WebSocket (KEP-4006).
const TUNNEL: &str = "SPDY/3.1+";

/// Sub-protocols that can be agreed to, the best first.
pub(super) struct Protocols {
    /// Those with the prefix `SPDY/3.1+` are tunnels; an empty one is for clients that name none.
    pub(super) websocket: &'static [&'static str],
    pub(super) spdy: &'static [&'static str],
}

/// What the connection has become.
pub(super) enum Connection {
    Socket(Box<Socket>),
    Spdy(Session),
}

fn values(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name);
    let texts = values.iter().filter_map(|v| v.to_str().ok());
    texts.flat_map(|v| v.split(',')).map(str::trim)
}

fn has(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    values(headers, name).any(|value| value.eq_ignore_ascii_case(wanted))
}

/// What is agreed to: the sub-protocol, and the answer's headers.
struct Agreement {
    protocol: &'static str,
    spdy: bool,
    headers: Vec<(HeaderName, String)>,
}

/// Decides by the request's headers.
fn agree(headers: &HeaderMap, protocols: &Protocols) -> Result<Agreement, Refusal> {
    let spdy = has(headers, header::UPGRADE, SPDY);
    let (name, known) = if spdy {
        (SPDY_PROTOCOL, protocols.spdy)
    } else {
        (header::SEC_WEBSOCKET_PROTOCOL, protocols.websocket)
    };
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|_| has(headers, header::UPGRADE, "websocket"))
        .map(|key| derive_accept_key(key.as_bytes()));
    if !spdy && key.is_none() {
        return Err(Refusal::bad_request(
            "Upgrade request required: open this as a WebSocket or as SPDY/3.1",
        ));
    }
    let names_none = !spdy && values(headers, name.clone()).all(str::is_empty);
    let protocol = known.iter().find(|protocol| match protocol.is_empty() {
        true => names_none,
        false => has(headers, name.clone(), protocol),
    });
    let Some(protocol) = protocol.copied() else {
        let asked: Vec<&str> = values(headers, name).collect();
        return Err(Refusal::forbidden(format!(
            "unable to negotiate protocol: client supports [{}], server accepts [{}]",
            asked.join(", "),
            known.join(", ")
        )));
    };
    let mut answer = vec![
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, if spdy { SPDY } else { "websocket" }.to_owned()),
    ];
    if !protocol.is_empty() {
        answer.push((name, protocol.to_owned()));
    }
    answer.extend(key.map(|key| (header::SEC_WEBSOCKET_ACCEPT, key)));
    Ok(Agreement {
        protocol,
        spdy,
        headers: answer,
    })
}

/// Agrees, or says why not; `work` runs with the connection once it is there.
pub(super) fn upgrade<F>(
    mut request: Request<Incoming>,
    protocols: &Protocols,
    work: impl FnOnce(Connection, &'static str) -> F + Send + 'static,
) -> Result<Response<Body>, Refusal>
where
    F: Future<Output = ()> + Send,
{
    let Agreement {
        protocol,
        spdy,
        headers,
    } = agree(request.headers(), protocols)?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(FutureExt::boxed(async move {
        let stream = match upgraded.await {
            Ok(stream) => TokioIo::new(stream),
            Err(error) => return tracing::debug!(%error, "upgrade not completed"),
        };
        let connection = if spdy {
            let (from, to) = tokio::io::split(stream);
            Connection::Spdy(Session::start(from, to))
        } else {
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
            if protocol.starts_with(TUNNEL) {
                let (from, to) = socket::byte_stream(socket);
                Connection::Spdy(Session::start(from, to))
            } else {
                Connection::Socket(Box::new(socket))
            }
        };
        work(connection, protocol).await;
    }));
    let mut response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response
        .body(full(""))
        .map_err(|error| Refusal::internal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOCOLS: Protocols = Protocols {
        websocket: &["SPDY/3.1+portforward.k8s.io", "v4.channel.k8s.io", ""],
        spdy: &["portforward.k8s.io"],
    };

    fn agreed(headers: &[(&'static str, &str)]) -> Result<(&'static str, bool), String> {
        let headers = headers
            .iter()
            .map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap()));
        agree(&headers.collect(), &PROTOCOLS)
            .map(|agreement| (agreement.protocol, agreement.spdy))
            .map_err(|refusal| refusal.message)
    }

    #[test]
    fn the_best_that_both_know() {
        let socket = [("upgrade", "websocket"), ("sec-websocket-key", "x")];
        let ask = |protocols| agreed(&[socket[0], socket[1], ("sec-websocket-protocol", protocols)]);
        assert_eq!(ask("SPDY/3.1+portforward.k8s.io"), Ok((PROTOCOLS.websocket[0], false)));
        assert_eq!(ask("v9, v4.channel.k8s.io"), Ok((PROTOCOLS.websocket[1], false)));
        assert_eq!(agreed(&socket), Ok(("", false)));
        let refused = ask("v9").unwrap_err();
        assert!(refused.contains("client supports [v9]"), "{refused}");
        let spdy = agreed(&[
            ("upgrade", "SPDY/3.1"),
            ("x-stream-protocol-version", "portforward.k8s.io"),
        ]);
        assert_eq!(spdy, Ok(("portforward.k8s.io", true)));
        assert!(
            agreed(&[("upgrade", "websocket")])
                .unwrap_err()
                .contains("Upgrade request required")
        );
    }
}
