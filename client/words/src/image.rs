//! Names of images (`web`, `quay.io/team/web:v1`, `web@sha256:…`), taken apart and made full as Docker and containerd do
//! (github.com/distribution/reference, `normalize.go` and `regexp.go`).
//!
//! Why not a crate: `oci_spec::distribution::Reference` and the like of it in `oci-client` match one large regular
//! expression, compiled at the first use, whose `\w` lets letters of all alphabets into tags, which know no IPv6 registry
//! and no text that is not quite a name; statuses of nodes have such texts, and they must be compared all the same.

use std::fmt;

/// The registry of names that have none.
const DEFAULT_REGISTRY: &str = "docker.io";
/// The same by its old name.
const OLD_REGISTRY: &str = "index.docker.io";
/// Where that registry keeps the names of one part.
const LIBRARY: &str = "library/";
/// What is meant by a name without a tag.
const DEFAULT_TAG: &str = "latest";
/// Longest tag (OCI distribution specification).
const TAG_BYTES_MAX: usize = 128;
/// Longest path in a registry (distribution's `RepositoryNameTotalLengthMax`).
const REPOSITORY_BYTES_MAX: usize = 255;

/// Why a text is no name of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadImageName {
    /// What stands behind `@`.
    #[error("a digest is `sha256:` and 64 hexadecimal digits")]
    Digest,
    /// What stands behind the last colon.
    #[error("a tag has letters, digits, `_`, `.` and `-`, at most 128")]
    Tag,
    /// What stands before the first `/`, if that is a registry.
    #[error("the part before the first `/` is not the name of a registry")]
    Registry,
    /// The rest.
    #[error("it needs a name of lower-case letters, digits, `_`, `.`, `-`, parts separated by `/`")]
    Repository,
    /// The rest has too many characters.
    #[error("the name is longer than 255 characters")]
    TooLong,
    /// The rest could be an image's identifier.
    #[error("64 hexadecimal digits are the identifier of an image, not its name")]
    Identifier,
}

/// A name taken apart and made full. Two texts of one name are equal: `web`, `docker.io/library/web:latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName<'a> {
    registry: &'a str,
    /// Whether `library/` stands before the path, which then has one part.
    library: bool,
    path: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> ImageName<'a> {
    /// Takes any text apart without judging it, so that what a user or a node wrote can be compared whatever it is.
    pub fn of(text: &'a str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let (path, tag) = match rest.rsplit_once(':') {
            // A colon before a slash belongs to the port of a registry.
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, digest.is_none().then_some(DEFAULT_TAG)),
        };
        let (registry, path) = match path.split_once('/') {
            Some((first, path)) if is_registry(first) => (first, path),
            _ => (DEFAULT_REGISTRY, path),
        };
        let registry = if registry == OLD_REGISTRY {
            DEFAULT_REGISTRY
        } else {
            registry
        };
        let short = if registry == DEFAULT_REGISTRY {
            path.strip_prefix(LIBRARY)
                .or(Some(path))
                .filter(|path| !path.contains('/'))
        } else {
            None
        };
        Self {
            registry,
            library: short.is_some(),
            path: short.unwrap_or(path),
            tag,
            digest,
        }
    }

    /// Takes the name of an image apart.
    ///
    /// # Errors
    /// It is not one.
    pub fn parse(text: &'a str) -> Result<Self, BadImageName> {
        let name = Self::of(text);
        if name.digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(BadImageName::Digest);
        }
        if name.tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(BadImageName::Tag);
        }
        if !is_host(name.registry) {
            return Err(BadImageName::Registry);
        }
        if !name.path.split('/').all(is_component) {
            return Err(BadImageName::Repository);
        }
        if name.library && is_hexadecimal(name.path) {
            return Err(BadImageName::Identifier);
        }
        let prefix = if name.library { LIBRARY.len() } else { 0 };
        if name.path.len() + prefix > REPOSITORY_BYTES_MAX {
            return Err(BadImageName::TooLong);
        }
        Ok(name)
    }

    /// As images name it: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &'a str {
        self.registry
    }

    /// The path in the registry: `library/web`.
    pub fn repository(&self) -> String {
        format!("{}{}", if self.library { LIBRARY } else { "" }, self.path)
    }

    /// Registry and path: `docker.io/library/web`.
    pub fn without_version(&self) -> String {
        let bare = Self {
            tag: None,
            digest: None,
            ..*self
        };
        bare.to_string()
    }

    /// The tag, `latest` if there is neither tag nor digest.
    pub fn tag(&self) -> Option<&'a str> {
        self.tag
    }

    /// `sha256:…`, if it is named so.
    pub fn digest(&self) -> Option<&'a str> {
        self.digest
    }

    /// Whether the tag is what decides, and is one that means another image every day.
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag == Some(DEFAULT_TAG)
    }

    /// What runtimes go by: beside a digest the tag says nothing and is left out.
    pub fn meaning(&self) -> Self {
        let tag = self.tag.filter(|_| self.digest.is_none());
        Self { tag, ..*self }
    }

    /// As users write it: without what is understood anyway, but with the tag. None: the registry has to be named.
    pub fn familiar(&self) -> Option<String> {
        let full = self.to_string();
        let short = full.strip_prefix(DEFAULT_REGISTRY)?.strip_prefix('/')?;
        Some(
            short
                .strip_prefix(LIBRARY)
                .filter(|_| self.library)
                .unwrap_or(short)
                .to_owned(),
        )
    }
}

/// The full name, with all that was written: `docker.io/library/web:v1@sha256:…`.
impl fmt::Display for ImageName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let library = if self.library { LIBRARY } else { "" };
        write!(f, "{}/{library}{}", self.registry, self.path)?;
        if let Some(tag) = self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The full name of any text: `web` → `docker.io/library/web:latest`.
pub fn full(text: &str) -> String {
    ImageName::of(text).to_string()
}

/// `sha256:` and 64 lower-case hexadecimal digits: the one algorithm that registries and nodes use.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(is_hexadecimal)
}

fn is_hexadecimal(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether the part before the first slash is a registry and not the first part of a path. Capitals are not allowed in a
/// path.
fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// `[\w][\w.-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    (1..=TAG_BYTES_MAX).contains(&tag.len()) && !tag.starts_with(['.', '-']) && tag.bytes().all(allowed)
}

/// A name or an address, IPv6 in brackets, with or without a port.
fn is_host(registry: &str) -> bool {
    let digits = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = registry.strip_prefix('[') {
        return rest.split_once(']').is_some_and(|(address, port)| {
            let of_address = |b: u8| b.is_ascii_hexdigit() || b == b':';
            let port = port.is_empty() || port.strip_prefix(':').is_some_and(digits);
            !address.is_empty() && address.bytes().all(of_address) && port
        });
    }
    let (name, port) = registry.split_once(':').map_or((registry, None), |(a, b)| (a, Some(b)));
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.split('.').all(label) && port.is_none_or(digits)
}

/// Lower-case letters and digits, between them one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let word = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = [bytes.first(), bytes.last()]
        .into_iter()
        .all(|end| end.is_some_and(word));
    let separator = |between: &[u8]| matches!(between, b"" | b"." | b"_" | b"__") || between.iter().all(|b| *b == b'-');
    ends && bytes.split(word).all(separator)
}

#[cfg(test)]
mod tests;
