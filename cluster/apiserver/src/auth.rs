//! Who is asking. Authentication is by client certificate (see `serve/socket.rs`) or bearer token; whoever is authenticated
//! may do everything.

mod reviews;
pub(crate) mod token;
mod token_request;
pub(crate) mod user;

use serde_json::{Value, json};
use token::{Named, Signer, Statement};
use user::User;

use crate::read::Reader;
use crate::view;

/// Somebody who has shown a good token.
#[derive(Clone, Debug)]
pub(crate) struct TokenUser {
    pub(crate) user: User,
    /// Of the service account.
    pub(crate) uid: String,
    /// What else is known: the pod that the token is bound to, and the like.
    pub(crate) extra: Value,
    /// Those of the audiences asked for that the token is meant for.
    pub(crate) audiences: Vec<String>,
}

/// Gives service account tokens, and knows whose they are.
pub(crate) struct Tokens {
    signer: Signer,
    reader: Reader,
}

impl Tokens {
    /// Tokens that `signer` signs, of the accounts that `reader` finds.
    pub(crate) fn new(signer: Signer, reader: Reader) -> Self {
        Self { signer, reader }
    }

    /// Whose token this is, if it is good for one of the audiences. It is worth nothing without its service account and the
    /// object that it is bound to; another one of the same name will not do.
    pub(crate) fn user(&self, token: &str, audiences: &[String]) -> Option<TokenUser> {
        let now = jiff::Timestamp::now();
        let statement = Statement::read(&self.signer.verify(token)?, now.as_second())?;
        let shared = statement.shared(audiences);
        let namespace = Some(statement.namespace.as_str());
        let account = self.find("serviceaccounts", namespace, &statement.account)?;
        let bound = [
            ("pods", namespace, &statement.pod),
            ("secrets", namespace, &statement.secret),
        ];
        for (plural, namespace, object) in bound {
            let Some(named) = object else { continue };
            let found = self.find(plural, namespace, named)?;
            if gone_for(&found, now) > LEAVING_SECONDS {
                return None;
            }
        }
        if shared.is_empty() || gone_for(&account, now) > LEAVING_SECONDS {
            return None;
        }
        Some(TokenUser {
            user: User::service_account(&statement.namespace, &statement.account.name),
            uid: statement.account.uid.clone(),
            extra: extra(&statement),
            audiences: shared,
        })
    }

    /// An object of the core group, if it is the one that is meant.
    fn find(&self, plural: &str, namespace: Option<&str>, named: &Named) -> Option<Value> {
        let resource = self.reader.registry().resolve("", "v1", plural)?;
        let entry = self.reader.find(&resource, namespace, &named.name)?;
        let object: Value = serde_json::from_slice(&entry.value).ok()?;
        (view::meta(&object, "uid") == named.uid).then_some(object)
    }
}

/// A token is good for so long after its pod should have been gone (the original's leeway).
const LEAVING_SECONDS: i64 = 60;

/// Seconds since the object's deletion was due; negative or zero if it is not.
fn gone_for(object: &Value, now: jiff::Timestamp) -> i64 {
    let due = view::meta(object, "deletionTimestamp").parse::<jiff::Timestamp>();
    due.map_or(0, |due| now.as_second() - due.as_second())
}

fn extra(statement: &Statement) -> Value {
    let mut extra = json!({"authentication.kubernetes.io/credential-id": [format!("JTI={}", statement.id)]});
    for (kind, object) in [("pod", &statement.pod), ("node", &statement.node)] {
        if let Some(object) = object {
            extra[format!("authentication.kubernetes.io/{kind}-name")] = json!([object.name]);
            extra[format!("authentication.kubernetes.io/{kind}-uid")] = json!([object.uid]);
        }
    }
    extra
}
