//! Checks of containers.
