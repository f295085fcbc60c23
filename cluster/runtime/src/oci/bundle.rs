//! What a container is made of: its root file system and its configuration.

pub(crate) mod home;
pub(crate) mod host_facts;
pub(crate) mod memory;
pub(crate) mod mounts;
pub(crate) mod rootfs;
pub(crate) mod seccomp;
pub(crate) mod spec;
