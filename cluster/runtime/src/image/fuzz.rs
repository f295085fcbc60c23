//! Layers, archives and names as a registry or a stranger may send them.

use std::fs;

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
    ]
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
