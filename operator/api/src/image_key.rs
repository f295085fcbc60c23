//! How NodeImages name an image: what stands before the tag or digest, and that.

use std::fmt;

use afloat_words::image::{BadImageName, ImageName};

/// The default registry, which is left out.
const DEFAULT_REGISTRY: &str = "docker.io/";
/// The part of it that is left out where one more part follows.
const LIBRARY: &str = "library/";

/// An image, in the two parts that NodeImages have it under (distribution's `FamiliarName`, and the tag or digest).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageKey {
    /// `nginx`, `team/web`, `quay.io/team/web`.
    pub name: String,
    /// `1.14`, `latest`, `sha256:…`. Of an image with both, the digest: it decides.
    pub tag: String,
}

impl ImageKey {
    /// Of a reference as pods and jobs have it.
    ///
    /// # Errors
    /// It is no name of an image.
    pub fn of(reference: &str) -> Result<Self, BadImageName> {
        let image = ImageName::parse(reference)?;
        let full = image.without_version();
        let short = full.strip_prefix(DEFAULT_REGISTRY).map(|path| {
            let last = path.strip_prefix(LIBRARY).filter(|rest| !rest.contains('/'));
            last.unwrap_or(path)
        });
        let version = image.digest().or(image.tag()).unwrap_or("latest");
        Ok(Self {
            name: short.unwrap_or(&full).to_owned(),
            tag: version.to_owned(),
        })
    }
}

/// As runtimes take it: OpenKruise 1.9 joins a digest with a colon, which no runtime can pull.
impl fmt::Display for ImageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.tag.contains(':') { '@' } else { ':' };
        write!(f, "{}{between}{}", self.name, self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_named_as_users_write_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (reference, name, tag) in [
            ("nginx", "nginx", "latest"),
            ("docker.io/library/nginx:1", "nginx", "1"),
            ("index.docker.io/team/web:1", "team/web", "1"),
            ("quay.io/library/web", "quay.io/library/web", "latest"),
            ("localhost:5000/web:v1", "localhost:5000/web", "v1"),
            (&format!("web@{digest}"), "web", &digest),
            (&format!("web:1@{digest}"), "web", &digest),
        ] {
            let key = ImageKey::of(reference).unwrap();
            assert_eq!((key.name.as_str(), key.tag.as_str()), (name, tag), "{reference}");
            assert_eq!(ImageKey::of(&key.to_string()).unwrap(), key, "it can be read again");
        }
        assert!(ImageKey::of("Web").is_err() && ImageKey::of("web@sha256:1").is_err());
    }
}
