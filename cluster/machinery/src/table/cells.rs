//! The other kinds as `kubectl get` shows them.
use super::Layout;
pub(super) const LAYOUTS: &[Layout] = &[];
