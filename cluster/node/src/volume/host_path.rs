//! What a `hostPath` is to be, looked at and made as the kubelet (`pkg/volume/hostpath`) and its runtimes do.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Whether the path is of its type; one of the types that may be made is, where nothing is there. Without a type everything
/// is right, also nothing: the container's mount makes that, see [`make_missing`].
///
/// # Errors
/// The kubelet's sentence.
pub(super) fn check(path: &Path, kind: &str) -> Result<(), String> {
    // What a link leads to counts, and not the link.
    let found = fs::metadata(path).ok();
    let (may_make, right, what): (bool, fn(&Metadata) -> bool, _) = match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" => (true, Metadata::is_dir, "directory"),
        "Directory" => (false, Metadata::is_dir, "directory"),
        "FileOrCreate" => (true, Metadata::is_file, "file"),
        "File" => (false, Metadata::is_file, "file"),
        "Socket" => (false, |found| found.file_type().is_socket(), "socket file"),
        "CharDevice" => (false, |found| found.file_type().is_char_device(), "character device"),
        "BlockDevice" => (false, |found| found.file_type().is_block_device(), "block device"),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    match found {
        None if may_make && what == "file" => make_file(path),
        None if may_make => make_folder(path),
        Some(found) if right(&found) => Ok(()),
        _ => Err(format!(
            "hostPath type check failed: {} is not a {what}",
            path.display()
        )),
    }
}

/// Makes a folder where nothing is, as container runtimes do before they mount it.
///
/// # Errors
/// A sentence.
pub(crate) fn make_missing(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(path).map_err(|error| format!("failed to mkdir \"{}\": {error}", path.display()))
        }
        _ => Ok(()),
    }
}

fn make_folder(path: &Path) -> Result<(), String> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
    made.map_err(|error| failed("mkdir", path, &error))
}

/// Without a wait, should a pipe have come to be there meanwhile.
fn make_file(path: &Path) -> Result<(), String> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut options = fs::OpenOptions::new();
    let made = options
        .append(true)
        .create(true)
        .mode(0o644)
        .custom_flags(flags)
        .open(path);
    made.map(drop).map_err(|error| failed("open", path, &error))
}

/// As Go writes an error about a path.
fn failed(verb: &str, path: &Path, error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or_default();
    let mut letters = words.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_lowercase).collect();
    format!("{verb} {}: {first}{}", path.display(), letters.as_str())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn each_type_is_what_it_says_or_is_refused_in_the_kubelets_words() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("file"), "").unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink(at("file"), at("link")).unwrap();
        let told = |name: &str, kind: &str| {
            let told = check(&at(name), kind).err().unwrap_or_default();
            told.replace(&format!("{}/", dir.path().display()), "")
        };
        for (name, kind) in [
            ("folder", "Directory"),
            ("folder", "DirectoryOrCreate"),
            ("file", "File"),
            ("link", "File"),
            ("file", "FileOrCreate"),
            ("socket", "Socket"),
            ("nothing", ""),
        ] {
            assert_eq!(told(name, kind), "", "{name} {kind}");
        }
        for (name, kind, what) in [
            ("file", "Directory", "directory"),
            ("file", "DirectoryOrCreate", "directory"),
            ("nothing", "Directory", "directory"),
            ("folder", "File", "file"),
            ("folder", "FileOrCreate", "file"),
            ("socket", "File", "file"),
            ("nothing", "File", "file"),
            ("file", "Socket", "socket file"),
            ("file", "CharDevice", "character device"),
            ("folder", "BlockDevice", "block device"),
        ] {
            let expected = format!("hostPath type check failed: {name} is not a {what}");
            assert_eq!(told(name, kind), expected, "{kind}");
        }
        assert_eq!(check(Path::new("/dev/null"), "CharDevice"), Ok(()));
        assert_eq!(told("file", "Odd"), "Odd is an invalid volume type");
        assert!(fs::symlink_metadata(at("nothing")).is_err(), "looking makes nothing");
    }

    #[test]
    fn what_is_not_there_is_made_where_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        check(&at("a/b"), "DirectoryOrCreate").unwrap();
        check(&at("a/file"), "FileOrCreate").unwrap();
        make_missing(&at("a/c/d")).unwrap();
        make_missing(&at("a/file")).unwrap();
        assert!(at("a/b").is_dir() && at("a/file").is_file() && at("a/c/d").is_dir());
        assert_eq!(fs::metadata(at("a/c/d")).unwrap().permissions().mode() & 0o700, 0o700);
        let told = check(&at("none/file"), "FileOrCreate").unwrap_err();
        assert_eq!(
            told,
            format!("open {}: no such file or directory", at("none/file").display())
        );
        let told = make_missing(&at("a/file/x")).err();
        assert_eq!(told, None, "what cannot be looked at is the mount's to fail on");
    }
}
