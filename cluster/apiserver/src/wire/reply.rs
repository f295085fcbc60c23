//! Bodies and responses.

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;

use crate::Body;
use crate::wire::request::Accept;
use crate::wire::status::Status;

/// A body in one piece.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes bit by bit.
pub(crate) fn streamed(stream: impl Stream<Item = Bytes> + Send + 'static) -> Body {
    StreamBody::new(stream.map(|bytes| Ok(Frame::data(bytes)))).boxed_unsync()
}

/// A response with a content type.
pub(crate) fn typed(code: u16, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// JSON bytes, turned into YAML if that is asked for.
pub(crate) fn rendered(code: u16, accept: Accept, json: Bytes) -> Result<Response<Body>, Status> {
    if !accept.yaml {
        return Ok(typed(code, "application/json", full(json)));
    }
    let value: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
    let yaml = serde_saphyr::to_string(&value).map_err(Status::internal)?;
    Ok(typed(code, "application/yaml", full(yaml)))
}

/// A JSON document.
pub(crate) fn json(code: u16, value: &Value) -> Response<Body> {
    typed(code, "application/json", full(value.to_string()))
}

/// Adds `Warning` headers, as the original formats them.
pub(crate) fn with_warnings(mut response: Response<Body>, warnings: &[String]) -> Response<Body> {
    for warning in warnings {
        let text: String = warning
            .chars()
            .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
            .collect();
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}
