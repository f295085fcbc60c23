//! One try to pull one image.

use std::sync::Arc;
use std::time::Duration;

use afloat_api::{ImageSpec, SecretReference};
use afloat_images::puller::{Failure, Pulled, Start};
use afloat_words::keyring::Keyring;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::Api;
use tokio::time::timeout;

use crate::node::Node;
use crate::runtime::{LocalImage, Progress, Pull, PullError};

/// Time limit of one request to the API server.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Pulls, if it has to be. The future ends by itself.
pub(super) async fn pull(
    node: Node,
    start: Start,
    spec: ImageSpec,
    progress: Arc<Progress>,
) -> Result<Pulled, Failure> {
    let reference = start.image.to_string();
    let whole = async {
        if start.if_not_present {
            // A runtime that cannot say what it has may still be able to pull.
            if let Ok(Some(image)) = node.runtime.image(&reference).await {
                return Ok(told(&image, &reference));
            }
        }
        let (keyring, missing) = logins(&node.client, &spec.pull_secrets).await;
        let sandbox = spec.sandbox_config.clone().unwrap_or_default();
        let pull = Pull {
            reference: reference.clone(),
            keyring,
            labels: sandbox.labels,
            annotations: sandbox.annotations,
        };
        let result = node.runtime.pull(&pull, &progress).await;
        result.map(|image| told(&image, &reference)).map_err(|error| {
            let lasting = matches!(error, PullError::InvalidName(_));
            let message = std::iter::once(error.to_string())
                .chain(missing)
                .collect::<Vec<_>>()
                .join("; ");
            Failure { message, lasting }
        })
    };
    timeout(start.limit, whole).await.unwrap_or_else(|_| {
        Err(Failure {
            message: format!("not pulled within {} s", start.limit.as_secs()),
            lasting: false,
        })
    })
}

fn told(image: &LocalImage, reference: &str) -> Pulled {
    Pulled {
        id: image.id.clone(),
        digest: image.digest_of(reference).unwrap_or_default().to_owned(),
    }
}

/// What secrets hold, and sentences about those that cannot be read: perhaps the image can be had without.
async fn logins(client: &Client, secrets: &[SecretReference]) -> (Keyring, Vec<String>) {
    let mut keyring = Keyring::default();
    let mut missing = Vec::new();
    for secret in secrets {
        let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace);
        let why = match timeout(REQUEST_LIMIT, api.get(&secret.name)).await {
            Ok(Ok(found)) => match keyring.add_secret(&found) {
                Ok(()) => continue,
                Err(why) => why,
            },
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {REQUEST_LIMIT:?}"),
        };
        missing.push(format!(
            "secret {}/{} gives no login: {why}",
            secret.namespace, secret.name
        ));
    }
    (keyring, missing)
}
