//! What is known of images.

use std::collections::{BTreeMap, BTreeSet};

/// What is known of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Digest of its content.
    pub id: String,
    /// Its files, absolute, as far as they can be told; links are files.
    pub paths: Option<BTreeSet<String>>,
}

/// Images by the reference that objects name them with.
pub type Images = BTreeMap<String, Image>;
