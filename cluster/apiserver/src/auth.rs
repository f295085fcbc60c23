//! Who is asking. Authentication is by client certificate (see `serve.rs`) or bearer token; whoever is authenticated may
//! do everything.

mod reviews;
pub(crate) mod token;
mod token_request;

use http::{HeaderMap, header};
use serde_json::{Value, json};

use crate::auth::token::{ISSUER, Named, Statement};
use crate::{ApiServer, view};

/// An identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// For example `kubernetes-admin` or `system:serviceaccount:default:default`.
    pub name: String,
    /// For example `system:masters`.
    pub groups: Vec<String>,
}

impl User {
    /// A member of `system:masters`.
    pub fn master(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            groups: vec!["system:masters".into(), "system:authenticated".into()],
        }
    }

    /// Somebody who has shown nothing.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".into(),
            groups: vec!["system:unauthenticated".into()],
        }
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".into(),
        ];
        Self {
            name: format!("system:serviceaccount:{namespace}:{name}"),
            groups: groups.into(),
        }
    }

    pub(crate) fn is_anonymous(&self) -> bool {
        self.name == "system:anonymous"
    }
}

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

impl ApiServer {
    /// Whose token this is, if it is good for one of the audiences. It is worth nothing without its service account and the
    /// object that it is bound to; another one of the same name will not do.
    pub(crate) fn token_user(&self, token: &str, audiences: &[String]) -> Option<TokenUser> {
        let now = jiff::Timestamp::now();
        let statement = Statement::read(&self.inner.signer.verify(token)?, now.as_second())?;
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
        let resource = self.registry().resolve("", "v1", plural)?;
        let entry = self.inner.store.get(&view::key(&resource, namespace, &named.name))?;
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

/// The audience of the API server itself.
pub(crate) fn own_audiences() -> Vec<String> {
    vec![ISSUER.to_owned()]
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
