//! Memory as a file system, for emptyDirs of medium `Memory`. Mounted in the cluster's own mount namespace: it outlives the
//! inner process, and the kernel takes it away with the namespace.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags};

use crate::removal::remove_all;

/// Mounts it with these permissions, or leaves what is mounted there. What was there on the disk, of a version that had no memory for it, is
/// removed.
pub(crate) fn mount(path: &Path, size_bytes: u64, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    if is_mounted(path)? {
        return Ok(());
    }
    remove_all(path)?;
    fs::create_dir(path)?;
    let options = format!("mode={mode:o},size={size_bytes}");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    let mounted = |options: String| -> io::Result<()> {
        let options = std::ffi::CString::new(options)?;
        Ok(rustix::mount::mount(
            "tmpfs",
            path,
            "tmpfs",
            flags,
            Some(options.as_c_str()),
        )?)
    };
    // Memory that goes to no disk is to be had from Linux 6.4 on, and with root.
    mounted(format!("{options},noswap")).or_else(|_| mounted(options))
}

/// Memory is a file system of its own, other than that of the folder around it.
fn is_mounted(path: &Path) -> io::Result<bool> {
    let outside = path.parent().map(fs::metadata).transpose()?;
    Ok(outside.is_some_and(|outside| outside.dev() != fs::metadata(path).map_or(outside.dev(), |own| own.dev())))
}

/// Unmounts what is mounted on the directory or below it, the innermost first.
pub(crate) fn unmount_below(dir: &Path) -> io::Result<()> {
    for point in mounts_below(dir)?.iter().rev() {
        rustix::mount::unmount(point, UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// Mount points at or below a directory, outer ones first.
fn mounts_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let text = fs::read("/proc/self/mountinfo")?;
    let points = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(field))))
    });
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

/// mountinfo writes space, tab, newline and backslash as `\040` and its like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|digits| *byte == b'\\' && digits.iter().all(|d| (b'0'..b'8').contains(d)));
        let code = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = &after[3..];
            }
            None => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_they_are_written() {
        assert_eq!(unescape(b"/a\\040b/c\\134d\\9"), b"/a b/c\\d\\9");
        assert!(
            mounts_below(Path::new("/proc"))
                .unwrap()
                .contains(&PathBuf::from("/proc"))
        );
        assert!(mounts_below(Path::new("/no/such/place")).unwrap().is_empty());
    }
}
