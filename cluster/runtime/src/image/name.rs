//! Names of images as Docker understands them. Pure.

use super::ImageError;

/// Longest tag (OCI distribution specification).
const TAG_BYTES_MAX: usize = 128;

/// The full name that a reference means: `web` → `docker.io/library/web:latest`. A digest is kept (`…@sha256:…`), and a tag
/// beside a digest is dropped, as it says nothing then.
///
/// # Errors
/// [`ImageError::Name`], with what is wrong.
pub fn normalise(reference: &str) -> Result<String, ImageError> {
    let bad = |why| Err(ImageError::Name(reference.to_owned(), why));
    let (rest, digest) = match reference.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (reference, None),
    };
    if let Some(digest) = digest
        && !is_digest(digest)
    {
        return bad("a digest is `sha256:` and 64 hexadecimal digits");
    }
    let (path, tag) = match rest.rsplit_once(':') {
        // A colon before a slash belongs to the port of a registry.
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    if let Some(tag) = tag
        && (tag.is_empty()
            || tag.len() > TAG_BYTES_MAX
            || tag.starts_with(['.', '-'])
            || !tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)))
    {
        return bad("a tag has letters, digits, `_`, `.` and `-`, at most 128");
    }
    let (domain, path) = match path.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first == "localhost" => (first, path),
        _ => ("docker.io", path),
    };
    let domain = if domain == "index.docker.io" {
        "docker.io"
    } else {
        domain
    };
    if !domain.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !domain.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:".contains(&b))
    {
        return bad("the part before the first `/` is not the name of a registry");
    }
    let component = |c: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_.-".contains(&b);
        !c.is_empty() && c.bytes().all(inner) && !c.starts_with(['.', '_', '-']) && !c.ends_with(['.', '_', '-'])
    };
    if !path.split('/').all(component) {
        return bad("it needs a name of lower-case letters, digits, `_`, `.`, `-`, parts separated by `/`");
    }
    let library = if domain == "docker.io" && !path.contains('/') {
        "library/"
    } else {
        ""
    };
    Ok(match (digest, tag) {
        (Some(digest), _) => format!("{domain}/{library}{path}@{digest}"),
        (None, tag) => format!("{domain}/{library}{path}:{}", tag.unwrap_or("latest")),
    })
}

/// `sha256:` and 64 hexadecimal digits.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_full() {
        for (short, full) in [
            ("web", "docker.io/library/web:latest"),
            ("web:v1", "docker.io/library/web:v1"),
            ("docker.io/library/web", "docker.io/library/web:latest"),
            ("index.docker.io/web", "docker.io/library/web:latest"),
            ("team/web:v1", "docker.io/team/web:v1"),
            ("localhost/web", "localhost/web:latest"),
            ("localhost:5000/web", "localhost:5000/web:latest"),
            ("ghcr.io/a/b/c:1.0-rc_1", "ghcr.io/a/b/c:1.0-rc_1"),
        ] {
            assert_eq!(normalise(short).ok().as_deref(), Some(full));
            assert_eq!(normalise(full).ok().as_deref(), Some(full), "already full");
        }
        let digest = format!("sha256:{}", "a".repeat(64));
        assert_eq!(
            normalise(&format!("web:v1@{digest}")).ok(),
            Some(format!("docker.io/library/web@{digest}"))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            ":v1",
            "Web",
            "web:",
            "web:a b",
            "a//b",
            "web@sha256:12",
            "-web",
            "../web",
            "web:-v",
        ] {
            assert!(normalise(bad).is_err(), "{bad:?}");
        }
    }
}
