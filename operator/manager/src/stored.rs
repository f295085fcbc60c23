//! In which versions objects are stored. When a definition's storage version has changed, the leader writes each object once, by a patch
//! that changes nothing, which makes the API server store it anew; then the definition says that no other version is stored. That
//! is Kubernetes' way ("Upgrade existing objects to a new stored version"), in either direction, and whoever goes back to OpenKruise
//! needs it as well.

use std::time::Duration;

use afloat_api::convert;
use futures::future::try_join_all;
use kube::api::{DynamicObject, ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::{Api, Client, Error, ResourceExt as _};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::definition::{Definition, Definitions};

/// Objects of a page.
const PAGE: u32 = 500;
/// Objects written at the same time.
const WRITES: usize = 4;
/// After a failure; doubled up to the second.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What to do about objects that cannot be read.
const ADVICE: &str = "objects of NAME may be stored as v1alpha1, which nobody converts where v1beta1 alone is served: apply what \
     `afloat crds` prints without --serve v1beta1, run the operator without it until the definition's status.storedVersions is [v1beta1], \
     and then apply `afloat crds --serve v1beta1` again";

/// Looks whether what is stored can be read: objects stored in a version that nobody converts look as if their settings were not there.
///
/// # Errors
/// Says what to do.
pub(crate) async fn check(client: &Client) -> Result<(), String> {
    let definitions: Api<Definition> = Api::all(client.clone());
    for name in convert::definitions() {
        let wanted = ListParams::default().fields(&format!("metadata.name={name}"));
        let list = match definitions.list(&wanted).await {
            Ok(list) => list,
            Err(error) => {
                tracing::warn!(definition = name, %error, "cannot ask in which versions objects are stored");
                continue;
            }
        };
        for definition in list.iter().filter(|definition| !definition.is_converted()) {
            let Some(version) = definition.unfinished() else {
                continue;
            };
            if is_empty(client, definition, version).await.is_ok_and(|empty| !empty) {
                return Err(ADVICE.replace("NAME", &name));
            }
        }
    }
    Ok(())
}

/// Does it, whenever it is to be done, until `shutdown`.
pub(crate) async fn keep(client: Client, shutdown: CancellationToken) {
    let mut definitions = Definitions::new(&client);
    let mut pause = PAUSES.0;
    loop {
        let failed = tokio::select! {
            failed = finish_all(&client, definitions.known()) => failed,
            () = shutdown.cancelled() => return,
        };
        // Where nothing failed there is nothing to do before something changes.
        let again = if failed { pause } else { Duration::MAX };
        pause = if failed {
            pause.saturating_mul(2).min(PAUSES.1)
        } else {
            PAUSES.0
        };
        tokio::select! {
            () = definitions.changed() => {}
            () = sleep(again) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Gives whether something failed.
async fn finish_all(client: &Client, definitions: Vec<Definition>) -> bool {
    let mut failed = false;
    for definition in &definitions {
        if let Err(error) = finish(client, definition).await {
            let name = definition.name_any();
            tracing::warn!(definition = name, %error, "cannot bring objects to the stored version, trying again");
            failed = true;
        }
    }
    failed
}

/// Brings all objects of a definition to its storage version.
async fn finish(client: &Client, definition: &Definition) -> Result<(), Error> {
    let Some(version) = definition.unfinished() else {
        return Ok(());
    };
    let written = if definition.is_converted() {
        rewrite(client, definition, version).await?
    } else if is_empty(client, definition, version).await? {
        0
    } else {
        return Ok(());
    };
    let name = definition.name_any();
    // Only of the definition that was looked at: another one may store in another version.
    let patch = json!({
        "metadata": {"resourceVersion": definition.resource_version()}, "status": {"storedVersions": [version]},
    });
    let api: Api<Definition> = Api::all(client.clone());
    match api
        .patch_status(&name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
    {
        // The newer one comes by the watch.
        Err(Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
        Ok(_) => {
            tracing::info!(
                definition = name,
                version,
                objects = written,
                "all objects are stored in one version"
            );
            Ok(())
        }
    }
}

async fn is_empty(client: &Client, definition: &Definition, version: &str) -> Result<bool, Error> {
    let objects: Api<DynamicObject> = Api::all_with(client.clone(), &definition.resource(version));
    let page = objects.list_metadata(&ListParams::default().limit(1)).await?;
    Ok(page.items.is_empty())
}

/// Writes each object as it is; gives their number.
async fn rewrite(client: &Client, definition: &Definition, version: &str) -> Result<usize, Error> {
    let resource = definition.resource(version);
    let objects: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let (mut written, mut from) = (0, None);
    loop {
        let mut params = ListParams::default().limit(PAGE);
        params.continue_token = from;
        let page = objects.list_metadata(&params).await?;
        written += page.items.len();
        for some in page.items.chunks(WRITES) {
            let write = |item: &PartialObjectMeta<DynamicObject>| {
                let object: Api<DynamicObject> = match item.namespace() {
                    Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
                    None => objects.clone(),
                };
                touch(object, item.name_any())
            };
            try_join_all(some.iter().map(write)).await?;
        }
        from = page.metadata.continue_.filter(|token| !token.is_empty());
        if from.is_none() {
            return Ok(written);
        }
    }
}

async fn touch(objects: Api<DynamicObject>, name: String) -> Result<(), Error> {
    let nothing = Patch::Merge(json!({}));
    match objects.patch_metadata(&name, &PatchParams::default(), &nothing).await {
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}
