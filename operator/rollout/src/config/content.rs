//! What is known of the content of a ConfigMap or a Secret: a digest of each value, and no value.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::reads::{Read, Source};

/// Stands for a source that is not there and need not be.
pub const ABSENT: &str = "absent";

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// There is no such object.
    Missing,
    /// The digests of its values.
    There(BTreeMap<String, [u8; 32]>),
}

impl Content {
    /// Of keys and values. Whoever may read pods sees digests of what they read, and could try values that they guess: what is secret is
    /// `salted` with something that they cannot see.
    pub fn of<'a>(salt: &str, values: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let digest = |value: &[u8]| {
            let mut hash = Sha256::new();
            hash.update(salt.as_bytes());
            hash.update([0]);
            hash.update(value);
            hash.finalize().into()
        };
        let all = values.into_iter().map(|(key, value)| (key.to_owned(), digest(value)));
        Self::There(all.collect())
    }

    /// A short text that is another one where what is read is something else.
    ///
    /// # Errors
    /// What is missing that has to be there.
    pub fn digest(&self, source: &Source, read: &Read) -> Result<String, String> {
        let Self::There(values) = self else {
            return if read.required {
                Err(format!("{source} is missing"))
            } else {
                Ok(ABSENT.to_owned())
            };
        };
        let required = read.keys.iter().filter(|(_, required)| **required);
        if let Some((key, _)) = required.clone().find(|(key, _)| !values.contains_key(*key)) {
            return Err(format!("key {key:?} of {source} is missing"));
        }
        let mut hash = Sha256::new();
        for (key, value) in values {
            if read.whole || read.keys.contains_key(key) {
                // Neither a key nor a digest of this length can be taken for a part of the other.
                hash.update(key.len().to_be_bytes());
                hash.update(key.as_bytes());
                hash.update(value);
            }
        }
        let bytes: [u8; 32] = hash.finalize().into();
        Ok(bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }
}
