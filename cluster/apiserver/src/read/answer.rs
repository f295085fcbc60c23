//! The answer that shows one object.

use bytes::Bytes;
use http::Response;

use crate::read::table;
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::status::Status;

/// Answers with one object, as it is stored, in the form asked for.
pub(crate) fn answer(call: &Call, code: u16, stored: &Bytes, warnings: &[String]) -> Result<Response<Body>, Status> {
    let bytes = table::one(&call.resource, call.accept.form, &call.query, stored)?;
    Ok(reply::with_warnings(
        reply::rendered(code, call.accept, bytes)?,
        warnings,
    ))
}
