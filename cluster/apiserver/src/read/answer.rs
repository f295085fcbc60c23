//! The answer that shows one object.

use bytes::Bytes;
use http::Response;

use crate::read::{Reader, table};
use crate::wire::body::Body;
use crate::wire::call::Call;
use crate::wire::reply;
use crate::wire::status::Status;

impl Reader {
    /// Answers with one object, given as it is stored, in the version and the form asked for.
    pub(crate) async fn answer(
        &self,
        call: &Call,
        code: u16,
        stored: &Bytes,
        warnings: &[String],
    ) -> Result<Response<Body>, Status> {
        let served = self.converted_one(&call.resource, stored).await?;
        let bytes = table::one(&call.resource, call.accept.form, &call.query, &served)?;
        Ok(reply::with_warnings(
            reply::rendered(code, call.accept, bytes)?,
            warnings,
        ))
    }
}
