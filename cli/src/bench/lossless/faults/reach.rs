//! Whether the API server can be reached, and how it cannot.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// All is well.
    Up,
    /// Connections are refused, and those that were open are cut.
    Refused,
    /// Nothing comes through, neither requests nor answers nor events; later it does, as TCP sends it again.
    Silent,
}
