//! The store as a whole, in temporary directories.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{BuildSpec, ImageStore, architecture};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A tar of (path, kind, content or link target).
pub(super) fn tar(entries: &[(&str, tar::EntryType, &str)]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_mtime(7);
        header.set_uid(0);
        header.set_gid(0);
        let is_link = kind.is_symlink() || kind.is_hard_link();
        header.set_size(if is_link || kind.is_dir() {
            0
        } else {
            u64::try_from(content.len())?
        });
        // `set_path` refuses what a hostile archive would have.
        let name = path.as_bytes();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        if is_link {
            header.set_link_name_literal(content)?;
        }
        header.set_cksum();
        builder.append(&header, if is_link { &b""[..] } else { content.as_bytes() })?;
    }
    Ok(builder.into_inner()?)
}

fn store() -> Result<(tempfile::TempDir, ImageStore)> {
    let dir = tempfile::tempdir()?;
    let store = ImageStore::open(&dir.path().join("images"))?;
    Ok((dir, store))
}

fn spec(dir: &Path, name: &str, text: &str) -> Result<BuildSpec> {
    let (one, two) = (dir.join("one"), dir.join("two"));
    fs::write(&one, "always the same")?;
    fs::write(&two, text)?;
    fs::set_permissions(&one, fs::Permissions::from_mode(0o755))?;
    Ok(BuildSpec {
        name: name.into(),
        files: vec![(one, "/bin/one".into()), (two, "/etc/two".into())],
        ..BuildSpec::default()
    })
}

#[test]
fn the_same_files_are_the_same_image_and_layers_are_shared() -> Result {
    let (dir, store) = store()?;
    let first = store.build(&spec(dir.path(), "web:v1", "v1")?)?;
    let again = store.build(&spec(dir.path(), "web:again", "v1")?)?;
    let other = store.build(&spec(dir.path(), "web:v2", "v2")?)?;
    assert_eq!(first.id, again.id);
    assert_ne!(first.id, other.id);
    assert_eq!(again.names, ["docker.io/library/web:again", "docker.io/library/web:v1"]);
    assert_eq!(
        fs::read_dir(dir.path().join("images/layers"))?.count(),
        3,
        "one shared, two of their own"
    );
    assert_eq!(store.read_file(&other.id, "etc/two")?, "v2");
    assert_eq!(
        store.find("docker.io/library/web:v2")?.map(|i| i.id),
        Some(other.id.clone())
    );
    assert_eq!(store.find(&other.id)?.map(|i| i.id), Some(other.id.clone()));
    assert_eq!(store.find(&format!("web@{}", other.id))?.map(|i| i.id), Some(other.id));
    assert_eq!(store.find("web:v3")?, None);
    assert!(store.remove("web:v1")?);
    assert_eq!(
        store.find(&first.id)?.map(|i| i.names),
        Some(vec!["docker.io/library/web:again".into()])
    );
    assert!(store.remove("web:again")? && store.remove("web:v2")? && !store.remove("web:v2")?);
    assert!(store.list()?.is_empty());
    store.prune(&[])?;
    assert_eq!(fs::read_dir(dir.path().join("images/layers"))?.count(), 0);
    Ok(())
}

#[test]
fn nothing_leaves_the_root() -> Result {
    use tar::EntryType::{Link, Regular, Symlink};
    let (dir, store) = store()?;
    for hostile in [
        vec![("../out", Regular, "x")],
        vec![("a/../../out", Regular, "x")],
        vec![("hard", Link, "../../../../../../../../etc/passwd")],
        // A whiteout of `..`: what it hides would be the folder of all layers.
        vec![(".wh...", Regular, "")],
        vec![(".wh..", Regular, "")],
        vec![(".wh.", Regular, "")],
    ] {
        assert!(store.add_layer(&tar(&hostile)?[..]).is_err(), "{hostile:?}");
    }
    assert!(dir.path().join("images/layers").is_dir());
    let outside = dir.path().join("outside");
    fs::create_dir(&outside)?;
    let target = outside.to_str().ok_or("a path")?;
    // A link out of the root means a place inside of it.
    let layer = store.add_layer(&tar(&[("esc", Symlink, target), ("esc/file", Regular, "x")])?[..]);
    assert_eq!(fs::read_dir(&outside)?.count(), 0);
    drop(layer);
    let layer =
        store.add_layer(&tar(&[("/abs", Regular, "x"), ("link", Symlink, "/abs"), ("two", Link, "abs")])?[..])?;
    let root = dir.path().join("images/layers").join(layer).join("fs");
    assert_eq!(fs::read_to_string(root.join("two"))?, "x");
    assert_eq!(fs::read_link(root.join("link"))?, Path::new("/abs"));
    Ok(())
}

#[test]
fn a_pipe_is_no_file_to_read() -> Result {
    let (dir, store) = store()?;
    let archive = dir.path().join("image.tar");
    fs::write(&archive, tar(&[("manifest.json", tar::EntryType::Fifo, "")])?)?;
    let refused = store.load(&archive).err().map(|error| error.to_string());
    assert!(refused.is_some_and(|text| text.ends_with("manifest.json is not a file")));
    Ok(())
}

/// Folders that somebody else has filled: a layout, and what an image is to be built of.
#[test]
fn only_files_are_read_and_nobody_waits_for_others() -> Result {
    let (dir, store) = store()?;
    let layout = dir.path().join("layout");
    fs::create_dir_all(layout.join("blobs/sha256"))?;
    let fifo = |path: &Path| {
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o644));
        rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0)
    };
    fifo(&layout.join("index.json"))?;
    let told = |path: &Path| {
        store
            .load(path)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert!(told(&layout).contains("index.json is not a file"));
    fs::remove_file(layout.join("index.json"))?;
    let digest = "0".repeat(64);
    fifo(&layout.join("blobs/sha256").join(&digest))?;
    let index = json!({ "manifests": [{ "digest": format!("sha256:{digest}") }] });
    fs::write(layout.join("index.json"), index.to_string())?;
    assert!(told(&layout).contains("is not a file"));
    std::os::unix::fs::symlink("/dev/zero", layout.join("manifest.json"))?;
    assert!(
        told(&layout).contains("index.json") || !told(&layout).is_empty(),
        "a device outside is not read"
    );
    fs::remove_file(layout.join("manifest.json"))?;
    fs::write(layout.join("manifest.json"), vec![b' '; 5 << 20])?;
    assert!(told(&layout).contains("manifest.json is larger than"));
    let entries = vec![json!({ "Config": "c", "Layers": [] }); 1001];
    fs::write(layout.join("manifest.json"), serde_json::to_vec(&entries)?)?;
    assert!(told(&layout).contains("has 1001 images"));

    let mut spec = spec(dir.path(), "web", "x")?;
    let folder = dir.path().join("folder");
    fs::create_dir(&folder)?;
    spec.files = vec![(folder.clone(), "/data".into())];
    fifo(&folder.join("pipe"))?;
    let refused = |store: &ImageStore| {
        store
            .build(&spec)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert!(refused(&store).contains("neither a file nor a directory"));
    fs::remove_file(folder.join("pipe"))?;
    let socket = std::os::unix::net::UnixListener::bind(folder.join("socket"))?;
    assert!(refused(&store).contains("neither a file nor a directory"));
    drop(socket);
    fs::remove_file(folder.join("socket"))?;
    fs::File::create(folder.join("holes"))?.set_len(1 << 42)?;
    assert!(refused(&store).contains("almost all of them holes"));
    Ok(())
}

/// Lists of users that are no lists.
#[test]
fn files_of_an_image_are_read_up_to_a_limit() -> Result {
    let (dir, store) = store()?;
    let mut spec = spec(dir.path(), "web", "x")?;
    fs::File::create(dir.path().join("two"))?.set_len(64 << 20)?;
    spec.files[1].1 = "/etc/passwd".into();
    let image = store.build(&spec)?;
    let told = store
        .read_file(&image.id, "etc/passwd")
        .err()
        .map(|error| error.to_string());
    assert!(told.is_some_and(|text| text.contains("larger than 4194304 bytes in the image")));
    Ok(())
}

#[test]
fn what_a_dead_pull_left_goes_at_the_next_start() -> Result {
    let (dir, store) = store()?;
    let (dead, alive) = (store.partial_path(), store.partial_path());
    fs::write(&dead, "half a layer")?;
    let held = fs::File::create(&alive)?;
    held.lock()?;
    ImageStore::open(&dir.path().join("images"))?;
    assert!(!dead.exists() && alive.exists());
    Ok(())
}

#[test]
fn whiteouts_take_the_overlays_form() -> Result {
    use tar::EntryType::{Directory, Regular};
    let (dir, store) = store()?;
    let entries = [
        ("d/", Directory, ""),
        ("d/.wh..wh..opq", Regular, ""),
        (".wh.gone", Regular, ""),
    ];
    let layer = store.add_layer(&tar(&entries)?[..])?;
    let root = dir.path().join("images/layers").join(layer).join("fs");
    assert!(fs::symlink_metadata(root.join("gone"))?.file_type().is_char_device());
    let mut value = [0_u8; 1];
    let marked = ["user.overlay.opaque", "trusted.overlay.opaque"]
        .iter()
        .any(|mark| rustix::fs::getxattr(root.join("d"), *mark, &mut value[..]) == Ok(1) && value == *b"y");
    assert!(marked);
    Ok(())
}

fn config(diff_id: &str) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&json!({
        "architecture": architecture(), "os": "linux",
        "config": { "Entrypoint": ["/x"], "User": "web" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
    }))?)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

#[test]
fn a_layout_and_an_archive_give_the_same_image() -> Result {
    use tar::EntryType::Regular;
    let (dir, store) = store()?;
    let layer = tar(&[("x", Regular, "program")])?;
    let config = config(&hex::encode(Sha256::digest(&layer)))?;
    let archive = tar(&[
        (
            "manifest.json",
            Regular,
            &json!([{ "Config": "c.json", "RepoTags": ["web:v1"], "Layers": ["l/layer.tar"] }]).to_string(),
        ),
        ("c.json", Regular, std::str::from_utf8(&config)?),
        ("l/layer.tar", Regular, std::str::from_utf8(&layer)?),
    ])?;
    let file = dir.path().join("archive.tar.gz");
    fs::write(&file, gzip(&archive)?)?;
    let loaded = store.load(&file)?;
    assert_eq!(loaded[0].names, ["docker.io/library/web:v1"]);
    assert_eq!((loaded[0].config.user.as_str(), loaded[0].size_bytes), ("web", 7));

    let layout = dir.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let put = |bytes: &[u8]| -> Result<String> {
        let digest = hex::encode(Sha256::digest(bytes));
        fs::write(blobs.join(&digest), bytes)?;
        Ok(format!("sha256:{digest}"))
    };
    let manifest =
        json!({ "config": { "digest": put(&config)? }, "layers": [{ "digest": put(&gzip(&layer)?)? }] }).to_string();
    let digest = put(manifest.as_bytes())?;
    let index = json!({ "manifests": [{ "digest": digest, "annotations": { "org.opencontainers.image.ref.name": "team/web:v2" } }] });
    fs::write(layout.join("index.json"), index.to_string())?;
    let again = store.load(&layout)?;
    assert_eq!(again[0].id, loaded[0].id);
    assert_eq!(again[0].names, ["docker.io/library/web:v1", "docker.io/team/web:v2"]);
    assert_eq!(
        store.find(&format!("web@{digest}"))?.map(|i| i.id),
        Some(loaded[0].id.clone()),
        "by its manifest's digest"
    );
    Ok(())
}

#[test]
fn what_is_broken_is_named() -> Result {
    let (dir, store) = store()?;
    let file = dir.path().join("file");
    fs::write(&file, "this is no archive")?;
    assert!(
        store
            .load(&file)
            .is_err_and(|e| e.to_string().contains("is not a tar archive") || e.to_string().contains("neither"))
    );
    assert!(store.load(&dir.path().join("none")).is_err());
    let mut spec = spec(dir.path(), "web", "x")?;
    spec.files.push(("/does/not/exist".into(), "/x".into()));
    assert!(
        store
            .build(&spec)
            .is_err_and(|e| e.to_string().contains("/does/not/exist"))
    );
    Ok(())
}

/// An archive of several images of one layer each, for these architectures, as an OCI layout.
fn platforms(dir: &Path, of: &[&str]) -> Result {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let put = |bytes: &[u8]| -> Result<String> {
        let digest = hex::encode(Sha256::digest(bytes));
        fs::write(blobs.join(&digest), bytes)?;
        Ok(format!("sha256:{digest}"))
    };
    let layer = tar(&[("x", tar::EntryType::Regular, "program")])?;
    let diff_id = hex::encode(Sha256::digest(&layer));
    let mut manifests = Vec::new();
    for architecture in of {
        let config = json!({ "architecture": architecture, "rootfs": { "diff_ids": [format!("sha256:{diff_id}")] } });
        let manifest = json!({
            "config": { "digest": put(config.to_string().as_bytes())? }, "layers": [{ "digest": put(&layer)? }],
        });
        let os = if *architecture == "unknown" { "unknown" } else { "linux" };
        let platform = json!({ "os": os, "architecture": architecture });
        manifests.push(json!({ "digest": put(manifest.to_string().as_bytes())?, "platform": platform }));
    }
    fs::write(dir.join("index.json"), json!({ "manifests": manifests }).to_string())?;
    Ok(())
}

#[test]
fn of_several_platforms_this_machines_is_loaded() -> Result {
    let (dir, store) = store()?;
    let layout = dir.path().join("layout");
    platforms(&layout, &["s390x", architecture(), "unknown"])?;
    assert_eq!(store.load(&layout)?.len(), 1);
    platforms(&layout, &["s390x", "unknown"])?;
    let told = store.load(&layout).err().map(|error| error.to_string());
    assert!(told.is_some_and(|text| text.contains("has no image for linux/")));
    Ok(())
}

/// A docker archive of these layers. Answers the image's id.
fn load(dir: &Path, store: &ImageStore, layers: &[Vec<u8>]) -> Result<String> {
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| format!("sha256:{}", hex::encode(Sha256::digest(layer))))
        .collect();
    let from = dir.join("from");
    let _ = fs::remove_dir_all(&from);
    fs::create_dir(&from)?;
    let config = json!({ "config": {}, "rootfs": { "diff_ids": diff_ids } });
    fs::write(from.join("c.json"), config.to_string())?;
    for (number, layer) in layers.iter().enumerate() {
        fs::write(from.join(number.to_string()), layer)?;
    }
    let names: Vec<_> = (0..layers.len()).map(|number| number.to_string()).collect();
    let manifest = json!([{ "Config": "c.json", "RepoTags": ["web:v1"], "Layers": names }]);
    fs::write(from.join("manifest.json"), manifest.to_string())?;
    Ok(store.load(&from)?.remove(0).id)
}

/// What a lower layer has and an upper one hides is not in the image, links lead where they lead in a container.
#[test]
fn files_are_those_that_a_container_sees() -> Result {
    use tar::EntryType::{Directory, Regular, Symlink};
    let (dir, store) = store()?;
    let base = tar(&[
        ("etc", Directory, ""),
        ("etc/passwd", Regular, "old"),
        ("etc/group", Regular, "old"),
        ("opt/a", Regular, "old"),
        ("usr/etc/shadow", Regular, "lower"),
    ])?;
    let upper = tar(&[
        ("etc/.wh.passwd", Regular, ""),
        ("etc/link", Symlink, "/usr/etc/../etc/shadow"),
        ("opt/.wh..wh..opq", Regular, ""),
        ("here", Symlink, "etc"),
        ("loop", Symlink, "loop"),
        ("pipe", tar::EntryType::Fifo, ""),
    ])?;
    let id = load(dir.path(), &store, &[base.clone(), upper.clone()])?;
    for (path, text) in [
        ("etc/passwd", ""),
        ("etc/group", "old"),
        ("opt/a", ""),
        ("etc/link", "lower"),
        ("here/group", "old"),
        ("loop", ""),
        ("pipe", ""),
        ("etc", ""),
        ("etc/group/x", ""),
    ] {
        assert_eq!(store.read_file(&id, path)?, text, "{path}");
    }
    let paths = store.paths(&id)?;
    assert!(
        paths.contains("/here/group") && !paths.contains("/opt/a") && !paths.contains("/etc/passwd"),
        "{paths:?}"
    );
    // The same layers the other way round, one of them twice.
    let id = load(dir.path(), &store, &[base.clone(), upper, base])?;
    assert_eq!(store.read_file(&id, "etc/passwd")?, "old");
    assert_eq!(store.layers(&id)?.len(), 2);
    Ok(())
}
