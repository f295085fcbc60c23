//! The file in which a container tells why it ended: made for it, and read when it has. What reads it trusts nothing in it or
//! about it: the container's processes had it, and with them whoever broke into them.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

/// Makes an empty one that every user of the container may write to. Those of attempts before the last are taken away.
///
/// # Errors
/// A sentence.
pub(crate) fn make(path: &Path) -> Result<(), String> {
    try_make(path).map_err(|error| format!("making the termination log {}: {error}", path.display()))
}

fn try_make(path: &Path) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
        let attempt = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        for entry in fs::read_dir(folder)? {
            let old = entry?.path();
            // The last one may not have been read yet.
            if attempt(&old).zip(attempt(path)).is_some_and(|(old, new)| old + 1 < new) {
                fs::remove_file(old)?;
            }
        }
    }
    fs::write(path, "")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

/// The end of what stands in it, so many bytes at most. Nothing where there is none.
///
/// # Errors
/// It cannot be read, or is no plain file any more.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let mut file = match openat(CWD, path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(vec![]),
        Err(error) => return Err(error.into()),
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    file.seek(SeekFrom::Start(found.len().saturating_sub(most)))?;
    let mut bytes = vec![];
    // It may still grow.
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_end_of_a_plain_file_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app/3");
        make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        assert_eq!(read(&path, 4).unwrap(), b"");
        fs::write(&path, "abcdef").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"cdef");
        assert_eq!(read(&path, 9).unwrap(), b"abcdef");
        assert_eq!(read(&dir.path().join("none"), 4).unwrap(), b"");

        let secret = dir.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&secret, &path).unwrap();
        assert!(read(&path, 9).is_err());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read(&path, 9).is_err());
        fs::remove_dir(&path).unwrap();
        rustix::fs::mknodat(CWD, &path, rustix::fs::FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
        assert!(read(&path, 9).is_err(), "and a pipe is not waited for");
    }

    #[test]
    fn attempts_before_the_last_are_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let at = |attempt: u32| dir.path().join("app").join(attempt.to_string());
        for attempt in 8..=10 {
            make(&at(attempt)).unwrap();
        }
        assert_eq!([8, 9, 10].map(|attempt| at(attempt).exists()), [false, true, true]);
    }
}
