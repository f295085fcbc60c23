//! What is said.

/// Why a validation refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reason {
    /// The user may not do this.
    Forbidden,
    /// The object is not as it should be.
    #[default]
    Invalid,
    /// The object is too large.
    RequestEntityTooLarge,
    /// The user is not known.
    Unauthorized,
}

impl Reason {
    /// All of them.
    const ALL: [Self; 4] = [
        Self::Forbidden,
        Self::Invalid,
        Self::RequestEntityTooLarge,
        Self::Unauthorized,
    ];
    /// As policies have them.
    pub const NAMES: [&'static str; 4] = ["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];

    /// The reason of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let at = Self::NAMES.iter().position(|known| *known == name)?;
        Self::ALL.get(at).copied()
    }
}

/// What the policies say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the request is refused.
    pub denied: Option<Denial>,
    /// For the client's `Warning` headers.
    pub warnings: Vec<String>,
    /// For the audit log.
    pub audit: Vec<String>,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The sentence behind `is forbidden: `.
    pub message: String,
    /// The status' reason.
    pub reason: Reason,
}
