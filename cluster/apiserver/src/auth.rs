//! Who is asking, and whether they may. Authentication is by client certificate (see `serve/socket.rs`) or bearer token;
//! [`authorization`] decides what somebody may do.

pub(crate) mod authorization;
mod impersonation;
pub(crate) mod nodes;
pub(crate) mod reviews;
pub(crate) mod token;
mod token_request;

use std::collections::BTreeMap;

use afloat_machinery::authorization::User;
use serde_json::Value;
use token::{Named, PublicKey, Signer, Statement, texts};

use crate::read::Reader;
use crate::view;

/// Somebody who has shown a good token.
#[derive(Clone, Debug)]
pub(crate) struct TokenUser {
    pub(crate) user: User,
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
            user: User {
                uid: statement.account.uid.clone(),
                extra: extra(&statement),
                ..User::service_account(&statement.namespace, &statement.account.name)
            },
            audiences: shared,
        })
    }

    /// The key by which whoever likes may check tokens.
    pub(crate) fn public_key(&self) -> PublicKey {
        self.signer.public_key()
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

/// What else a token says: the pod that it is bound to, and the like.
fn extra(statement: &Statement) -> BTreeMap<String, Vec<String>> {
    let key = |name: &str| format!("authentication.kubernetes.io/{name}");
    let mut extra = BTreeMap::from([(key("credential-id"), vec![format!("JTI={}", statement.id)])]);
    for (kind, object) in [("pod", &statement.pod), ("node", &statement.node)] {
        if let Some(object) = object {
            extra.insert(key(&format!("{kind}-name")), vec![object.name.clone()]);
            extra.insert(key(&format!("{kind}-uid")), vec![object.uid.clone()]);
        }
    }
    extra
}

/// Somebody whom a review names.
fn subject(spec: &Value) -> User {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let extra = spec["extra"].as_object().into_iter().flatten();
    User {
        name: text("user"),
        uid: text("uid"),
        groups: texts(&spec["groups"]),
        extra: extra.map(|(key, values)| (key.clone(), texts(values))).collect(),
    }
}
