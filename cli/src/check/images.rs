//! What is known of images: those in the data folder of an embedded cluster.

use std::path::Path;

use afloat_check::{Image, Images};
use afloat_runtime::image::ImageStore;
use anyhow::Context as _;
use serde_json::Value;

/// Looks up what the objects name; without a folder nothing is known.
pub(crate) fn known(data_dir: Option<&Path>, objects: &[Value]) -> anyhow::Result<Images> {
    let mut found = Images::new();
    let Some(data_dir) = data_dir else {
        return Ok(found);
    };
    let dir = data_dir.join("images");
    // Opening a store makes it; a look must leave nothing behind.
    anyhow::ensure!(dir.is_dir(), "--data-dir {}: no images are there", data_dir.display());
    let store = ImageStore::open(&dir)?;
    for reference in afloat_check::references(objects) {
        // A name that is none is the API server's business.
        let Ok(Some(image)) = store.find(&reference) else {
            continue;
        };
        let paths = store
            .paths(&image.id)
            .with_context(|| format!("cannot look into image {reference}"))?;
        let image = Image {
            id: image.id,
            paths: Some(paths),
        };
        found.insert(reference, image);
    }
    Ok(found)
}
