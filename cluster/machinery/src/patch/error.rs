//! Why a patch is refused.

/// Why a patch cannot be applied.
#[derive(Clone, Debug, PartialEq)]
pub enum PatchError {
    /// 400: the patch itself is malformed.
    Malformed(String),
    /// 422: it does not fit the object (failed `test`, missing path).
    Unprocessable(String),
    /// 415: not supported for this kind.
    Unsupported(String),
}
