//! Keeps keys and certificates in a Secret that all instances share, and the definitions true to it: they name the webhook and the
//! authorities that it may show. What somebody else's webhook converts is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use afloat_api::{Door, names};
use afloat_certificates::split;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::certificates::{Certificates, Step, step};
use super::configured::keep_configurations;
use super::options::Options;
use super::serve::Shown;
use crate::definition::{Definition, Definitions};

/// Between two looks at what ends.
const CHECK: Duration = Duration::from_secs(3600);
/// For all requests of a look.
const LIMIT: Duration = Duration::from_secs(30);
/// After a look that failed; doubled up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Steps of one look: somebody else may be faster each time.
const STEPS: usize = 16;

/// The Secret and the definitions.
struct Keeper<'a> {
    client: Client,
    options: &'a Options,
    names: BTreeSet<String>,
    shown: &'a Shown,
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("{0}")]
    Api(#[from] Error),
    #[error("{0}")]
    Make(#[from] afloat_certificates::Error),
    #[error("{0}")]
    Show(#[from] tokio_rustls::rustls::Error),
    #[error("the Secret {0} is changed again and again")]
    Busy(&'static str),
    #[error("no answer within {LIMIT:?}")]
    Late,
}

/// Keeps until `shutdown`.
pub(super) async fn keep(client: Client, options: &Options, shown: &Shown, shutdown: &CancellationToken) {
    let mut definitions = Definitions::new(&client);
    let keeper = Keeper {
        client,
        options,
        names: names_of(&options.door),
        shown,
    };
    let mut pause = PAUSES.0;
    loop {
        let wait = match timeout(LIMIT, keeper.look(&definitions.known()))
            .await
            .unwrap_or(Err(Failed::Late))
        {
            Ok(()) => {
                pause = PAUSES.0;
                CHECK
            }
            // Another instance was faster; what it wrote comes by the watch.
            Err(Failed::Api(Error::Api(status))) if status.code == 409 => PAUSES.0,
            Err(error) => {
                tracing::warn!(%error, "the conversion webhook cannot be kept trusted, trying again");
                let wait = pause;
                pause = pause.saturating_mul(2).min(PAUSES.1);
                wait
            }
        };
        tokio::select! {
            () = definitions.changed() => {}
            () = sleep(wait) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

impl Keeper<'_> {
    async fn look(&self, definitions: &[Definition]) -> Result<(), Failed> {
        let certificates = self.certificates(definitions).await?;
        self.shown.show(&certificates)?;
        let api: Api<Definition> = Api::all(self.client.clone());
        for definition in definitions {
            let name = definition.name_any();
            if let Some(patch) = correction(definition, &self.options.door, &certificates.authorities) {
                api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
                tracing::info!(definition = name, "the API server is told of the conversion webhook");
            }
        }
        let door = &self.options.door;
        keep_configurations(&self.client, door, &certificates.authorities).await?;
        Ok(())
    }

    /// What the Secret holds, after whatever was to be done about it.
    async fn certificates(&self, definitions: &[Definition]) -> Result<Certificates, Failed> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.options.namespace);
        for _ in 0..STEPS {
            let secret = api.get_opt(names::WEBHOOK_SECRET).await?;
            let stored = secret.as_ref().map(read);
            let newest = stored
                .as_ref()
                .and_then(|stored| split(&stored.authorities).into_iter().next());
            let trusted = newest.is_some_and(|newest| {
                let mut ours = definitions
                    .iter()
                    .filter(|definition| is_ours(definition, &self.options.door));
                ours.all(|definition| bundle(definition).is_some_and(|bundle| bundle.contains(&newest)))
            });
            let now = Timestamp::now();
            let step = step(now, stored.as_ref(), &self.names, trusted);
            if step == Step::Keep {
                return Ok(stored.unwrap_or_default());
            }
            let made = stored.unwrap_or_default().after(step, now, &self.names)?;
            let written = match secret {
                None => {
                    api.create(&PostParams::default(), &written(ObjectMeta::default(), &made))
                        .await
                }
                // Its resourceVersion goes along: of two instances one is told that it was too late.
                Some(old) => {
                    let new = written(old.metadata, &made);
                    api.replace(names::WEBHOOK_SECRET, &PostParams::default(), &new).await
                }
            };
            match written {
                Ok(_) => tracing::info!(?step, "keys of the conversion webhook"),
                Err(Error::Api(status)) if status.code == 409 => {}
                Err(Error::Api(status)) if status.code == 404 => self.create_namespace().await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failed::Busy(names::WEBHOOK_SECRET))
    }

    /// On a cluster that OpenKruise was never on, its namespace is missing.
    async fn create_namespace(&self) -> Result<(), Failed> {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(self.options.namespace.clone());
        let api: Api<Namespace> = Api::all(self.client.clone());
        match api.create(&PostParams::default(), &namespace).await {
            Err(Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop).map_err(Failed::from),
        }
    }
}

/// The names under which the API server asks.
fn names_of(door: &Door) -> BTreeSet<String> {
    match door {
        Door::Service { namespace, name } => [".svc", ".svc.cluster.local"]
            .map(|domain| format!("{name}.{namespace}{domain}"))
            .into(),
        Door::Url(url) => {
            let uri = url.parse::<http::Uri>().ok();
            let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
            [host.trim_matches(['[', ']']).to_owned()].into()
        }
    }
}

fn read(secret: &Secret) -> Certificates {
    let text = |key: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned())
            .unwrap_or_default()
    };
    Certificates {
        authorities: text("ca.crt"),
        authority_key: text("ca.key"),
        certificate: text("tls.crt"),
        key: text("tls.key"),
    }
}

fn written(metadata: ObjectMeta, certificates: &Certificates) -> Secret {
    let all = [
        ("ca.crt", &certificates.authorities),
        ("ca.key", &certificates.authority_key),
        ("tls.crt", &certificates.certificate),
        ("tls.key", &certificates.key),
    ];
    let data: BTreeMap<_, _> = all
        .map(|(key, text)| (key.to_owned(), ByteString(text.clone().into_bytes())))
        .into();
    Secret {
        metadata: ObjectMeta {
            name: Some(names::WEBHOOK_SECRET.into()),
            ..metadata
        },
        data: Some(data),
        ..Secret::default()
    }
}

fn config(definition: &Definition) -> Option<&Value> {
    let conversion = &definition.spec.conversion;
    let webhook = conversion.webhook.as_ref().filter(|_| definition.is_converted())?;
    Some(&webhook.client_config)
}

/// Whom the API server trusts about a definition, as PEM.
fn bundle(definition: &Definition) -> Option<String> {
    let bytes = STANDARD.decode(config(definition)?["caBundle"].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

/// Whether a definition is converted by this webhook. What `afloat crds` prints when it is told nothing is ours as well.
fn is_ours(definition: &Definition, door: &Door) -> bool {
    let Some(config) = config(definition) else { return false };
    let names = |door: &Door| match door {
        Door::Service { namespace, name } => {
            config["service"]["namespace"] == **namespace && config["service"]["name"] == **name
        }
        Door::Url(url) => config["url"] == **url,
    };
    names(door) || names(&Door::default())
}

/// What makes a definition name the webhook and its authorities; None if it does.
fn correction(definition: &Definition, door: &Door, authorities: &str) -> Option<Value> {
    if !is_ours(definition, door) {
        return None;
    }
    let given = config(definition)?;
    let mut wanted = door.client_config();
    wanted["caBundle"] = STANDARD.encode(authorities).into();
    let fields = wanted.as_object()?;
    if fields.iter().all(|(field, value)| given[field] == *value) {
        return None;
    }
    Some(json!({
        "metadata": {"resourceVersion": definition.resource_version()},
        "spec": {"conversion": {"webhook": {"clientConfig": wanted}}},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(conversion: Value) -> Definition {
        let object = json!({"metadata": {"name": "clonesets.apps.kruise.io", "resourceVersion": "7"},
            "spec": {"conversion": conversion}});
        serde_json::from_value(object).unwrap()
    }

    fn webhook(config: Value) -> Value {
        json!({"strategy": "Webhook", "webhook": {"clientConfig": config}})
    }

    #[test]
    fn only_what_names_us_is_corrected() {
        let door = Door::default();
        let url = Door::Url("https://192.0.2.1:9443/convert".into());
        let ours = json!({"service": {"namespace": "kruise-system", "name": "afloat-webhook"}, "caBundle": "b2xk"});
        for door in [&door, &url] {
            let patch = correction(&definition(webhook(ours.clone())), door, "new").unwrap();
            assert_eq!(patch["metadata"]["resourceVersion"], "7");
            let config = &patch["spec"]["conversion"]["webhook"]["clientConfig"];
            assert_eq!(config["caBundle"], STANDARD.encode("new"));
            // What the patch asks for is what is left as it is.
            assert!(correction(&definition(webhook(config.clone())), door, "new").is_none());
        }
        let others = json!({"service": {"namespace": "kruise-system", "name": "kruise-webhook-service"}});
        for conversion in [
            webhook(others),
            json!({"strategy": "None"}),
            json!({"strategy": "Webhook"}),
        ] {
            assert!(correction(&definition(conversion), &door, "new").is_none());
        }
    }

    #[test]
    fn the_names_are_those_that_are_asked_for() {
        let names = |door: &Door| names_of(door).into_iter().collect::<Vec<_>>();
        assert_eq!(
            names(&Door::default()),
            [
                "afloat-webhook.kruise-system.svc",
                "afloat-webhook.kruise-system.svc.cluster.local"
            ]
        );
        assert_eq!(names(&Door::Url("https://[::1]:9443/convert".into())), ["::1"]);
        assert_eq!(
            names(&Door::Url("https://host.example/convert".into())),
            ["host.example"]
        );
    }
}
