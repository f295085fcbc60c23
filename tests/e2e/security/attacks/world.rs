//! A running cluster, and the usual words to it.

use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _};
use serde_json::json;

use super::door::Door;
use crate::cluster::Cluster;
use crate::registry::Registry;

/// Objects that lists are about.
const FILL: usize = 3_000;
/// What is asked may take so long at most; longer than the server lets it.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is attacked.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) door: Door,
    pub(super) registry: Registry,
}

/// Method, path, content type and body.
pub(super) type Asked = (&'static str, String, &'static str, Bytes);

impl World {
    /// Sends all, so many at once. Whatever is answered is no fault of the server.
    pub(super) async fn all(&self, all: Vec<Asked>, at_once: usize) {
        let asked: Vec<_> = all.into_iter().map(|asked| self.one(asked).boxed()).collect();
        futures::stream::iter(asked)
            .buffer_unordered(at_once)
            .for_each(|()| async {})
            .await;
    }

    async fn one(&self, (method, path, kind, body): Asked) {
        let asked = self.door.ask(method, &path, kind, &body);
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok((code, text))) => {
                let text = String::from_utf8_lossy(text.get(..300).unwrap_or(&text)).into_owned();
                assert!(code < 500 || code == 504, "{method} {path}: {code} {text}");
            }
            Ok(Err(_)) => {}
            Err(_) => panic!("{method} {path}: no answer"),
        }
    }

    /// One request that is answered with this code.
    pub(super) async fn expect(&self, method: &'static str, path: &str, kind: &'static str, body: &Bytes, code: u16) {
        let (got, text) = self.door.ask(method, path, kind, body).await.expect("an answer");
        let text = String::from_utf8_lossy(text.get(..500).unwrap_or(&text)).into_owned();
        assert_eq!(got, code, "{method} {path}: {text}");
    }

    /// Makes the objects that lists are about, once.
    pub(super) async fn fill(&self) {
        let maps = "/api/v1/namespaces/default/configmaps";
        let last = format!("{maps}/fill-{}", FILL - 1);
        if self
            .door
            .ask("GET", &last, "", &Bytes::new())
            .await
            .is_ok_and(|(code, _)| code == 200)
        {
            return;
        }
        let made = (0..FILL).map(|n| {
            let map = json!({"metadata": {"name": format!("fill-{n}"), "labels": {"a": "b"}}, "data": {"text": "x".repeat(2_000)}});
            ("POST", maps.to_owned(), "application/json", Bytes::from(map.to_string()))
        });
        self.all(made.collect(), 16).await;
    }
}
