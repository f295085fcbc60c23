//! Answers that go on, as messages of a WebSocket: watches and logs, for clients that cannot read an answer bit by bit. And tokens that
//! come as a sub-protocol, from clients that cannot set a header.

use std::pin::pin;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures::FutureExt;
use futures::{SinkExt as _, StreamExt as _};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use crate::wire::body::{Body, full};
use crate::wire::status::Status;

/// A client has nothing to say that is longer.
const FROM_CLIENT_BYTES: usize = 4 << 10;
/// How long a client may take to say good-bye.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);
/// Begins the sub-protocol that is a token.
const BEARER: &str = "base64url.bearer.authorization.k8s.io.";

/// How an answer becomes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A text for each line: the events of a watch.
    Lines,
    /// The bytes as they come: a log.
    Pieces,
}

/// A client that wants a WebSocket, and the sub-protocol that both know.
#[derive(Debug)]
pub(crate) struct Wanted {
    client: OnUpgrade,
    accept: String,
    protocol: Option<&'static str>,
}

/// The words of a header's list.
fn words(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let texts = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    texts.flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether a request asks for a WebSocket.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let has = |name, word: &str| words(headers, name).any(|found| found.eq_ignore_ascii_case(word));
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// What a request asks for. None: no WebSocket, or it comes by a way that has no connection.
///
/// # Errors
/// 403 if nobody knows the sub-protocols that it names.
pub(crate) fn wanted(parts: &mut Parts, framing: Framing) -> Result<Option<Wanted>, Status> {
    let key = parts
        .headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|_| is_wanted(&parts.headers));
    let accept = key.map(|key| derive_accept_key(key.as_bytes()));
    let client = parts.extensions.remove::<OnUpgrade>();
    let (Some(accept), Some(client)) = (accept, client) else {
        return Ok(None);
    };
    // Those of a watch mean nothing; a client that names one expects to hear it.
    let known = ["binary.k8s.io", "base64.binary.k8s.io"];
    let asked: Vec<&str> = words(&parts.headers, header::SEC_WEBSOCKET_PROTOCOL).collect();
    let protocol = asked
        .iter()
        .find_map(|asked| known.iter().find(|known| *known == asked).copied());
    if protocol.is_none() && !asked.is_empty() && framing == Framing::Pieces {
        let why = format!(
            "unable to negotiate protocol: client supports [{}], server accepts [{}]",
            asked.join(" "),
            known.join(" ")
        );
        return Err(Status::refused(why));
    }
    Ok(Some(Wanted {
        client,
        accept,
        protocol,
    }))
}

/// The answer, which goes on as messages; one that is a refusal stays what it is.
pub(crate) fn upgraded(answer: Response<Body>, wanted: Option<Wanted>, framing: Framing) -> Response<Body> {
    let Some(wanted) = wanted.filter(|_| answer.status() == StatusCode::OK) else {
        return answer;
    };
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&wanted.accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocol) = wanted.protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    let texts = wanted.protocol == Some("base64.binary.k8s.io");
    let body = answer.into_body();
    tokio::spawn(FutureExt::boxed(async move {
        match wanted.client.await {
            Ok(stream) => {
                let config = WebSocketConfig::default().max_message_size(Some(FROM_CLIENT_BYTES));
                let stream = TokioIo::new(stream);
                let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
                send(socket, body, framing, texts).await;
            }
            Err(error) => tracing::debug!(%error, "a WebSocket was not established"),
        }
    }));
    response
}

/// Sends an answer until it or the client ends.
async fn send(
    mut socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    body: Body,
    framing: Framing,
    texts: bool,
) {
    let mut body = pin!(body);
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            said = socket.next() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                // Pings are answered where they are read.
                Some(Ok(_)) => continue,
            },
        };
        let Some(Ok(frame)) = frame else { break };
        for message in messages(&frame.into_data().unwrap_or_default(), framing, texts) {
            if socket.send(message).await.is_err() {
                return;
            }
        }
    }
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    // Whoever is gone already needs no good-bye; whoever is not answers it, so that nothing is lost that is still on its way.
    let _ = socket.close(Some(close)).await;
    let _ = timeout(GOODBYE_LIMIT, async { while let Some(Ok(_)) = socket.next().await {} }).await;
    let _ = timeout(GOODBYE_LIMIT, socket.get_mut().shutdown()).await;
}

/// A part of an answer as messages. Events come whole.
fn messages(part: &Bytes, framing: Framing, texts: bool) -> Vec<Message> {
    let one = |bytes: &[u8]| match (texts, framing) {
        (true, _) => Message::text(STANDARD.encode(bytes)),
        (false, Framing::Lines) => Message::text(String::from_utf8_lossy(bytes).into_owned()),
        (false, Framing::Pieces) => Message::binary(bytes.to_vec()),
    };
    match framing {
        Framing::Pieces if part.is_empty() => Vec::new(),
        Framing::Pieces => vec![one(part)],
        Framing::Lines => part.split_inclusive(|byte| *byte == b'\n').map(one).collect(),
    }
}

/// Takes the token out of the sub-protocols of a WebSocket, so that nobody behind this sees it.
///
/// # Errors
/// 401 if it is none, there are two, or nothing else is left to speak.
pub(crate) fn take_token(headers: &mut HeaderMap) -> Result<Option<String>, Status> {
    if !is_wanted(headers) {
        return Ok(None);
    }
    let (tokens, others): (Vec<&str>, Vec<&str>) =
        words(headers, header::SEC_WEBSOCKET_PROTOCOL).partition(|word| word.starts_with(BEARER));
    let token = match (tokens.as_slice(), others.as_slice()) {
        ([], _) => return Ok(None),
        ([token], [_, ..]) => URL_SAFE_NO_PAD.decode(token.trim_start_matches(BEARER)).ok(),
        _ => None,
    };
    let token = token
        .and_then(|token| String::from_utf8(token).ok())
        .filter(|token| !token.is_empty());
    let token = token.ok_or_else(Status::unauthorized)?;
    let others = HeaderValue::from_str(&others.join(", ")).map_err(Status::internal)?;
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    Ok(Some(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(protocols: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        for protocol in protocols {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, protocol.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_token_is_taken_and_the_rest_left() {
        let token = format!("{BEARER}{}", URL_SAFE_NO_PAD.encode("secret"));
        let take = |protocols: &[&str]| {
            let mut headers = headers(protocols);
            let taken = take_token(&mut headers).map_err(|status| status.code);
            (
                taken,
                words(&headers, header::SEC_WEBSOCKET_PROTOCOL)
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            )
        };
        let found = (Ok(Some("secret".to_owned())), vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(take(&[&format!("a, {token}"), "b"]), found);
        assert_eq!(take(&["a"]).0, Ok(None));
        for bad in [
            &[token.as_str()][..],
            &["a", &token, &token],
            &["a", "base64url.bearer.authorization.k8s.io.!"],
        ] {
            assert_eq!(take(bad).0, Err(401), "{bad:?}");
        }
        // Without a WebSocket it is a word like others.
        let mut plain = headers(&["a", &token]);
        plain.remove(header::UPGRADE);
        assert_eq!(take_token(&mut plain).unwrap(), None);
    }

    #[test]
    fn each_event_is_a_text_and_a_log_is_bytes() {
        let part = Bytes::from_static(b"{1}\n{2}\n");
        assert_eq!(
            messages(&part, Framing::Lines, false),
            [Message::text("{1}\n"), Message::text("{2}\n")]
        );
        assert_eq!(messages(&part, Framing::Pieces, false), [Message::binary(part.clone())]);
        assert_eq!(messages(&part, Framing::Pieces, true), [Message::text("ezF9CnsyfQo=")]);
        assert_eq!(messages(&Bytes::new(), Framing::Pieces, true), []);
    }
}
