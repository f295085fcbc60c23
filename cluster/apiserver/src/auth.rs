//! Who is asking. Authentication is by client certificate (see `serve.rs`) or bearer token; whoever is authenticated may
//! do everything.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderMap, header};
use rand::distr::{Alphanumeric, SampleString};
use serde_json::Value;

use crate::{ApiServer, view};

/// Tokens that are remembered at most; the one that expires first makes room.
const TOKEN_LIMIT: usize = 20_000;

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

/// A token that was given out.
struct Token {
    user: User,
    /// Key and uid of the service account, without which the token is worth nothing.
    account: Account,
    until: Instant,
}

/// A service account: its key in the store, and its uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) key: String,
    pub(crate) uid: String,
}

/// Tokens that `serviceaccounts/token` has given out. Held in memory: after a restart of the server they are refused and
/// the kubelets ask for new ones.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<BTreeMap<String, Token>>);

impl Tokens {
    /// Makes a token that is good for `lifetime`.
    pub(crate) fn issue(&self, user: User, account: Account, lifetime: Duration) -> String {
        let token = Alphanumeric.sample_string(&mut rand::rng(), 48);
        let now = Instant::now();
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKEN_LIMIT {
            tokens.retain(|_, token| token.until > now);
        }
        if tokens.len() >= TOKEN_LIMIT {
            let first = tokens
                .iter()
                .min_by_key(|(_, token)| token.until)
                .map(|(t, _)| t.clone());
            first.and_then(|t| tokens.remove(&t));
        }
        let until = now + lifetime;
        tokens.insert(token.clone(), Token { user, account, until });
        token
    }

    /// Whose token this is, unless it has expired.
    fn lookup(&self, token: &str) -> Option<(User, Account)> {
        let tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens
            .get(token)
            .filter(|token| token.until > Instant::now())
            .map(|token| (token.user.clone(), token.account.clone()))
    }
}

impl ApiServer {
    /// Whose token this is. It is worth nothing without its service account; another one of the same name will not do.
    pub(crate) fn token_user(&self, token: &str) -> Option<User> {
        let (user, account) = self.inner.tokens.lookup(token)?;
        let entry = self.inner.store.get(&account.key)?;
        let object: Value = serde_json::from_slice(&entry.value).ok()?;
        (view::meta(&object, "uid") == account.uid).then_some(user)
    }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
