//! How errors about a layer come to be.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

pub(super) fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// A name as errors show it.
pub(super) fn shown(name: &[u8]) -> String {
    OsStr::from_bytes(name).display().to_string()
}
