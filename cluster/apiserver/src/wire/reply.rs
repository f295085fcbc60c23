//! Responses in the form asked for.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::Value;

use crate::wire::body::{Body, full, typed};
use crate::wire::request::Accept;
use crate::wire::status::Status;

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
