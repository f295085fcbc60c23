//! The names under which images are stored. Pure.

use afloat_words::image::ImageName;

use super::ImageError;

/// The full name that a reference means: `web` → `docker.io/library/web:latest`. A digest is kept (`…@sha256:…`), and a tag
/// beside a digest is dropped, as it says nothing then.
///
/// # Errors
/// [`ImageError::Name`], with what is wrong.
pub fn normalise(reference: &str) -> Result<String, ImageError> {
    match ImageName::parse(reference) {
        Ok(name) => Ok(name.meaning().to_string()),
        Err(why) => Err(ImageError::Name(reference.to_owned(), why)),
    }
}
