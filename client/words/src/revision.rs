//! How new an object is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// A resourceVersion as a number, 0 if it is none. It is one in every API server that we know, and from Kubernetes 1.35 on
/// by contract (KEP-5504).
pub fn revision(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

/// That of an object.
pub fn revision_of(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().map_or(0, revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!((revision("12"), revision(""), revision("x")), (12, 0, 0));
        assert_eq!(revision_of(&ObjectMeta::default()), 0);
    }
}
