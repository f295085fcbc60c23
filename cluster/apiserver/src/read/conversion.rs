//! Objects of a custom resource in the version that is spoken, with its defaults: what is stored is converted when it leaves the store,
//! and what is to be stored before it gets there. Kinds with one version and no default pass by.

use afloat_machinery::convert::custom::{Conversion, answered, described};
use afloat_machinery::kinds::Resource;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::Reader;
use super::webhooks::LIMIT;
use crate::wire::status::Status;

/// Objects asked about at once: an answer fits into memory, and a list does not wait for one object after the other.
pub(crate) const BATCH: usize = 500;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versioned {
    #[serde(default)]
    api_version: String,
}

/// Whether stored bytes are of a version. Usually that is what they begin with.
fn is_of(bytes: &[u8], api_version: &str) -> bool {
    let begins = || {
        bytes
            .strip_prefix(b"{\"apiVersion\":\"")?
            .strip_prefix(api_version.as_bytes())?
            .first()
            .copied()
    };
    begins() == Some(b'"')
        || serde_json::from_slice::<Versioned>(bytes).is_ok_and(|object| object.api_version == api_version)
}

/// An object with its version's defaults; None if it has them all, or is none.
fn filled(conversion: &Conversion, bytes: &[u8]) -> Option<Bytes> {
    let stored: Value = serde_json::from_slice(bytes).ok()?;
    let mut object = stored.clone();
    conversion.complete(&mut object);
    (object != stored).then(|| object.to_string().into())
}

/// Whether a stored object has the defaults of its version.
pub(crate) fn is_complete(resource: &Resource, stored: &[u8]) -> bool {
    let conversion = resource.conversion.as_ref();
    conversion.is_none_or(|conversion| filled(conversion, stored).is_none())
}

impl Reader {
    /// Stored objects in the version that a resource serves.
    pub(crate) async fn converted(&self, resource: &Resource, stored: Vec<Bytes>) -> Result<Vec<Bytes>, Status> {
        let Some(conversion) = &resource.conversion else {
            return Ok(stored);
        };
        let wanted = resource.api_version();
        let single = stored.len() == 1;
        let mut all = stored;
        if conversion.fills(&wanted) {
            for bytes in all.iter_mut().filter(|bytes| is_of(bytes, &wanted)) {
                if let Some(filled) = filled(conversion, bytes) {
                    *bytes = filled;
                }
            }
        }
        let places: Vec<usize> = all
            .iter()
            .enumerate()
            .filter(|(_, bytes)| !is_of(bytes, &wanted))
            .map(|(at, _)| at)
            .collect();
        for places in places.chunks(BATCH) {
            let mut objects = Vec::with_capacity(places.len());
            for place in places {
                let bytes = all.get(*place).map(AsRef::as_ref).unwrap_or_default();
                let mut object: Value = serde_json::from_slice(bytes).map_err(Status::internal)?;
                conversion.complete(&mut object);
                objects.push(object);
            }
            let objects = self.convert(resource, conversion, &wanted, objects, single).await?;
            for (place, object) in places.iter().zip(objects) {
                if let Some(slot) = all.get_mut(*place) {
                    *slot = object.to_string().into();
                }
            }
        }
        Ok(all)
    }

    /// A stored object in the version that a resource serves.
    pub(crate) async fn converted_one(&self, resource: &Resource, stored: &Bytes) -> Result<Bytes, Status> {
        let converted = self.converted(resource, vec![stored.clone()]).await?;
        Ok(converted.into_iter().next().unwrap_or_default())
    }

    /// An object in the version in which it is stored.
    pub(crate) async fn to_stored(&self, resource: &Resource, object: Value) -> Result<Value, Status> {
        let wanted = resource.storage_api_version();
        let Some(conversion) = resource.conversion.as_ref().filter(|_| object["apiVersion"] != *wanted) else {
            return Ok(object);
        };
        let objects = self.convert(resource, conversion, &wanted, vec![object], true).await?;
        Ok(objects.into_iter().next().unwrap_or_default())
    }

    async fn convert(
        &self,
        resource: &Resource,
        conversion: &Conversion,
        wanted: &str,
        mut objects: Vec<Value>,
        single: bool,
    ) -> Result<Vec<Value>, Status> {
        if let Some(webhook) = &conversion.webhook {
            let first = objects.first().and_then(|object| object["apiVersion"].as_str());
            let gvk = described(&resource.kind, first.unwrap_or_default());
            let uid = uuid::Uuid::new_v4().to_string();
            let question = webhook.question(&uid, wanted, &objects).map_err(Status::unconverted)?;
            let answer = {
                let caller = resource.qualified_name();
                self.ask_webhook((&caller, &webhook.client_config), LIMIT, &question)
                    .await
            };
            let answer =
                answer.map_err(|why| Status::unconverted(format!("conversion webhook for {gvk} failed: {why}")))?;
            objects = answered(&question, &answer, &gvk, single).map_err(Status::unconverted)?;
        }
        for object in &mut objects {
            object["apiVersion"] = wanted.into();
            conversion.prune(object);
        }
        Ok(objects)
    }
}
