//! Requests in the name of somebody else.

use afloat_machinery::authorization::User;
use afloat_machinery::authorization::impersonation::{HEADER_PREFIX, Impersonation};
use http::HeaderMap;

use crate::auth::authorization::Authorization;
use crate::wire::status::Status;

impl Authorization {
    /// Who a request of `user` is to be taken for, by its headers, which are taken away: nobody behind this shall heed them.
    ///
    /// # Errors
    /// 403 if they may not act as that, 500 (as upstream) if it is not said as whom.
    pub(crate) fn impersonate(&self, headers: &mut HeaderMap, user: User) -> Result<User, Status> {
        let names: Vec<_> = headers
            .keys()
            .filter(|name| name.as_str().starts_with(HEADER_PREFIX))
            .cloned()
            .collect();
        if names.is_empty() {
            return Ok(user);
        }
        let mut given = Vec::new();
        for name in &names {
            for value in headers.get_all(name) {
                let value = value.to_str().map_err(|_| unreadable(name.as_str()))?;
                given.push((name.as_str(), value));
            }
        }
        let asked = Impersonation::read(given.into_iter()).map_err(Status::internal)?;
        for name in &names {
            headers.remove(name);
        }
        let Some(asked) = asked else { return Ok(user) };
        for attributes in asked.attributes(&user) {
            self.require(&attributes)?;
        }
        let other = asked.user();
        tracing::debug!(by = user.name, user = other.name, groups = ?other.groups, "impersonates");
        Ok(other)
    }
}

fn unreadable(header: &str) -> Status {
    Status::bad_request(format!("the header {header} holds more than visible ASCII"))
}
