//! Names and figures that the steps, what is seen of them and what is said of them have in common.

/// Annotation of a Deployment that is scaled to 0: what it had before.
pub(super) const REPLICAS: &str = "afloat.dev/takeover-replicas";
/// How long Kruise's manager waits for the Lease that it never gets: longer than any takeover.
pub(super) const HOLD_SECONDS: u32 = 30 * 24 * 3600;
