//! Layers, archives and names as a registry or a stranger may send them.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};

use proptest::prelude::*;

use super::layer::unpack;
use super::tests::tar;
use super::{ImageStore, normalise, resolve_user};

/// Everything that a layer may hold, whiteouts and a long name included.
fn layers() -> Vec<Vec<u8>> {
    use ::tar::EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};
    let whole = tar(&[
        ("etc", Directory, ""),
        ("etc/passwd", Regular, "root:x:0:0:root:/:/bin/sh\n"),
        ("etc/link", Symlink, "/etc/passwd"),
        ("etc/hard", Link, "etc/passwd"),
        ("dev/pipe", Fifo, ""),
        ("dev/null", Char, ""),
        ("etc/.wh.gone", Regular, ""),
        ("etc/.wh..wh..opq", Regular, ""),
    ]);
    let hostile = tar(&[
        (".wh.x", Regular, ""),
        ("a", Symlink, ".."),
        ("a/b", Regular, "x"),
        ("a/../../c", Regular, "x"),
    ]);
    let mut long = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    long.append_data(&mut header, "x/".repeat(120), &b"y"[..])
        .expect("a tar");
    vec![
        whole.expect("a tar"),
        hostile.expect("a tar"),
        long.into_inner().expect("a tar"),
        records(),
        holes(),
    ]
}

/// PAX records: a path, a size, an attribute; and a long link.
fn records() -> Vec<u8> {
    use ::tar::EntryType::{Regular, Symlink};
    let mut tar = ::tar::Builder::new(Vec::new());
    let extensions = [
        ("path", &b"pax/./file"[..]),
        ("size", b"3"),
        ("SCHILY.xattr.user.x", b"y"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ];
    tar.append_pax_extensions(extensions).expect("a tar");
    let mut header = ::tar::Header::new_ustar();
    header.set_entry_type(Regular);
    header.set_path("short").expect("a path");
    header.set_size(3);
    header.set_mode(0o600);
    header.set_cksum();
    tar.append(&header, &b"abc"[..]).expect("a tar");
    let mut header = ::tar::Header::new_gnu();
    header.set_entry_type(Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "link", "../".repeat(60)).expect("a tar");
    tar.into_inner().expect("a tar")
}

/// A file with holes, as GNU tar has them.
fn holes() -> Vec<u8> {
    let mut header = ::tar::Header::new_gnu();
    header.set_path("holes").expect("a path");
    header.set_entry_type(::tar::EntryType::GNUSparse);
    header.set_size(3);
    header.set_mode(0o644);
    let gnu = header.as_gnu_mut().expect("a header of GNU's");
    gnu.realsize = *b"00000001003\0";
    gnu.sparse[0].offset = *b"00000001000\0";
    gnu.sparse[0].numbytes = *b"00000000003\0";
    header.set_cksum();
    let mut tar = ::tar::Builder::new(Vec::new());
    tar.append(&header, &b"end"[..]).expect("a tar");
    tar.into_inner().expect("a tar")
}

/// Devices below a folder, the overlay's marks for what is gone apart.
fn devices(root: &std::path::Path) -> usize {
    let (mut found, mut left) = (0, vec![root.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let metadata = entry.metadata().expect("it is there");
            let kind = metadata.file_type();
            found += usize::from(kind.is_block_device() || kind.is_char_device() && metadata.rdev() != 0);
            if kind.is_dir() {
                left.push(entry.path());
            }
        }
    }
    found
}

/// Sums that are right again, so that what was damaged is read at all.
fn with_sums(mut bytes: Vec<u8>) -> Vec<u8> {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    bytes
}

proptest! {
    #[test]
    fn layers_stay_below_their_root(bytes in afloat_fuzz::damaged(layers()), sums: bool) {
        let bytes = if sums { with_sums(bytes) } else { bytes };
        let dir = tempfile::tempdir().expect("a folder");
        let (root, beside) = (dir.path().join("root"), dir.path().join("beside"));
        fs::create_dir(&root).expect("a folder");
        fs::write(&beside, "kept").expect("a file");
        let _ = unpack(&bytes[..], &root);
        prop_assert_eq!(fs::read_to_string(&beside).expect("it is still there"), "kept");
        prop_assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 2);
        prop_assert_eq!(devices(&root), 0);
    }

    #[test]
    fn archives_are_refused_or_loaded(bytes in afloat_fuzz::damaged(archives()), sums: bool) {
        let dir = tempfile::tempdir().expect("a folder");
        let store = ImageStore::open(&dir.path().join("images")).expect("a store");
        let archive = dir.path().join("image.tar");
        fs::write(&archive, if sums { with_sums(bytes) } else { bytes }).expect("a file");
        let _ = store.load(&archive);
        prop_assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 2);
    }

    #[test]
    fn a_full_name_means_itself(name in afloat_fuzz::damaged_text(&[
        "web", "web:v1", "localhost:5000/team/web:1.0-rc_1", "index.docker.io/web",
        "ghcr.io/a/b@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ])) {
        if let Ok(full) = normalise(&name) {
            prop_assert_eq!(normalise(&full).ok(), Some(full));
        }
    }

    #[test]
    fn users_are_found_or_not(
        user in afloat_fuzz::damaged_text(&["app", "app:www", "1000:1000", ""]),
        passwd in afloat_fuzz::damaged_text(&["root:x:0:0::/:/bin/sh\napp:x:7:8::/:\n"]),
        group in afloat_fuzz::damaged_text(&["www:x:9:app,root\nroot:x:0:\n"]),
    ) {
        if let Ok((_, gid, additional)) = resolve_user(&user, &passwd, &group) {
            prop_assert!(!additional.contains(&gid));
        }
    }
}

/// What `docker save` and an OCI layout look like, without layers.
fn archives() -> Vec<Vec<u8>> {
    use ::tar::EntryType::Regular;
    let docker = tar(&[
        (
            "manifest.json",
            Regular,
            r#"[{"Config":"c.json","RepoTags":["web:v1"],"Layers":[]}]"#,
        ),
        (
            "c.json",
            Regular,
            r#"{"rootfs":{"type":"layers","diff_ids":[]},"config":{"Cmd":["/web"]}}"#,
        ),
    ]);
    let layout = tar(&[(
        "index.json",
        Regular,
        r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:00"}]}"#,
    )]);
    vec![docker.expect("a tar"), layout.expect("a tar")]
}
