//! The hash that decides whether a running container still is what the pod asks for.
//!
//! Kubernetes ≥ 1.31 hashes name and image only, so that a change of any other (mutable) field restarts nothing.

use sha2::{Digest, Sha256};

/// Hash over `{"name","image"}` of a container, 16 hexadecimal digits.
pub fn container_hash(name: &str, image: &str) -> String {
    let json = serde_json::json!({ "name": name, "image": image }).to_string();
    Sha256::digest(json.as_bytes())
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depends_on_name_and_image_only() {
        let hash = container_hash("web", "web:v1");
        assert_eq!(hash.len(), 16);
        assert_eq!(hash, container_hash("web", "web:v1"));
        assert_ne!(hash, container_hash("web", "web:v2"));
        assert_ne!(hash, container_hash("log", "web:v1"));
    }
}
