//! Images as strangers build them, as containers see them.

use std::os::unix::fs::symlink;
use std::path::Path;

use afloat_runtime::image::ImageStore;
use afloat_runtime::{Mount, Runtime as _};
use anyhow::ensure;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::images::own_layers;
use crate::inner::Inside;

/// What the containers' scripts need.
const HELPERS: &str = "is() { [ \"$(cat $1)\" = \"$2\" ] || { echo \"$1 is not $2\"; exit 3; }; }
    may() { [ \"$(stat -c %a $1)\" = \"$2\" ] || { echo \"$1 is $(stat -c %a $1), not $2\"; exit 4; }; }";

pub(crate) async fn play(inside: &Inside) -> anyhow::Result<()> {
    let layers = || std::fs::read_dir(inside.dir.join("images/layers")).map(Iterator::count);
    let before = layers()?;
    let image = load(inside)?;
    inside.sandbox().await?;
    volumes(inside, &image).await?;
    places(inside, &image).await?;
    working_directory(inside, &image).await?;
    let store = ImageStore::open(&inside.dir.join("images"))?;
    ensure!(store.remove("stranger:v1")?);
    store.prune(&[])?;
    ensure!(layers()? == before, "its layers stay");
    Ok(())
}

fn header(kind: tar::EntryType, mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(7);
    header
}

fn folder(builder: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32) -> anyhow::Result<()> {
    Ok(builder.append_data(&mut header(tar::EntryType::Directory, mode, 0), path, &b""[..])?)
}

fn file(builder: &mut tar::Builder<Vec<u8>>, path: &str, text: &str) -> anyhow::Result<()> {
    let mut header = header(tar::EntryType::Regular, 0o640, text.len());
    Ok(builder.append_data(&mut header, path, text.as_bytes())?)
}

/// Links to nowhere, folders with modes and below them, in layers of their own, files without entries for their folders; one layer twice.
fn layers() -> anyhow::Result<[Vec<u8>; 3]> {
    let mut base = tar::Builder::new(Vec::new());
    folder(&mut base, "closed", 0o700)?;
    folder(&mut base, "data", 0o1770)?;
    folder(&mut base, "data/inner", 0o750)?;
    file(&mut base, "data/inner/file", "from the image")?;
    for (path, target) in [
        ("var/run", "/run/nowhere"),
        ("etc/link", "../nowhere/file"),
        ("etc/localtime", "/zone/x"),
    ] {
        base.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), path, target)?;
    }
    let mut above = tar::Builder::new(Vec::new());
    file(&mut above, "closed/file", "closed")?;
    file(&mut above, "data/inner/more", "more")?;
    let mut between = tar::Builder::new(Vec::new());
    file(&mut between, "closed/file", "between")?;
    Ok([base.into_inner()?, above.into_inner()?, between.into_inner()?])
}

/// As `docker save` writes it.
fn load(inside: &Inside) -> anyhow::Result<String> {
    let [base, above, between] = layers()?;
    let mut layers: Vec<Vec<u8>> = own_layers(inside)?.into_iter().map(|(plain, _)| plain).collect();
    layers.extend([base, above.clone(), between, above]);
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| format!("sha256:{}", hex::encode(Sha256::digest(layer))))
        .collect();
    let config = json!({
        "architecture": crate::registry::architecture(), "os": "linux",
        "config": { "Volumes": { "/data": {}, "/data/inner/deep/": {}, "/fresh": {} }, "Env": null, "WorkingDir": "work/here" },
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let names: Vec<_> = (0..layers.len()).map(|number| format!("{number}/layer.tar")).collect();
    let manifest = json!([{ "Config": "c.json", "RepoTags": ["stranger:v1"], "Layers": names }]);
    let path = inside.dir.join("stranger.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&path)?);
    let mut add = |name: &str, bytes: &[u8]| {
        archive.append_data(&mut header(tar::EntryType::Regular, 0o644, bytes.len()), name, bytes)
    };
    add("manifest.json", manifest.to_string().as_bytes())?;
    add("c.json", config.to_string().as_bytes())?;
    for (name, layer) in names.iter().zip(&layers) {
        add(name, layer)?;
    }
    archive.finish()?;
    let images = ImageStore::open(&inside.dir.join("images"))?.load(&path)?;
    Ok(images[0].id.clone())
}

/// Runs a script in the image to its end. Nothing of its container stays.
async fn run(inside: &Inside, mut spec: afloat_runtime::ContainerSpec, image: &str) -> anyhow::Result<()> {
    spec.image_id = image.to_owned();
    let id = inside.runtime.create_container(&spec).await?;
    inside.runtime.start_container(&id).await?;
    let end = inside.end_of(&id).await?;
    let log = tokio::fs::read_to_string(&spec.log_path).await.unwrap_or_default();
    ensure!(end.code == 0, "{}: code {}: {log}", spec.name, end.code);
    inside.runtime.remove_container(&id).await?;
    let place = inside.dir.join("nodes/node1/containers").join(&id);
    ensure!(!place.exists(), "{} leaves {}", spec.name, place.display());
    Ok(())
}

/// Filled with what the image has there, and another for each start.
async fn volumes(inside: &Inside, image: &str) -> anyhow::Result<()> {
    let script = format!(
        "{HELPERS}
        is /data/inner/file 'from the image'; is /data/inner/more more; may /data 1770; may /data/inner 750
        may /fresh 755; may /closed 700; is /closed/file closed
        [ ! -e /data/mine ] || {{ echo it is an old one; exit 5; }}
        echo x >/data/mine; echo x >/data/inner/mine; echo x >/data/inner/deep/mine; echo x >/fresh/mine
        if echo x 2>/dev/null >/mine; then echo the root can be written to; exit 6; fi"
    );
    for attempt in 0..2 {
        let mut spec = inside.spec("volumes", attempt, &script);
        spec.read_only_root = true;
        run(inside, spec, image).await?;
    }
    // A mount of the pod is there instead.
    let own = inside.dir.join("own-data");
    std::fs::create_dir_all(&own)?;
    let mut spec = inside.spec("replaced", 0, "[ ! -e /data/inner/file ] && echo x >/data/kept");
    spec.mounts = vec![mount(&own, "/data/", false)];
    run(inside, spec, image).await?;
    ensure!(std::fs::read_to_string(own.join("kept"))? == "x\n");
    Ok(())
}

fn mount(source: &Path, target: &str, read_only: bool) -> Mount {
    Mount {
        source: source.to_owned(),
        found: None,
        target: target.into(),
        read_only,
    }
}

/// Mounts on and below links that lead to nowhere.
async fn places(inside: &Inside, image: &str) -> anyhow::Result<()> {
    let source = inside.dir.join("mounted");
    std::fs::create_dir_all(&source)?;
    std::fs::write(source.join("file"), "mounted")?;
    symlink("nowhere", source.join("dangling"))?;
    let script = format!(
        "{HELPERS}
        is /var/run/secrets/token/file mounted; is /run/nowhere/secrets/token/file mounted
        is /etc/link mounted; is /nowhere/file mounted; is /etc/localtime/file mounted; is /zone/x/file mounted"
    );
    let mut spec = inside.spec("places", 0, &script);
    spec.mounts = vec![
        mount(&source, "/var/run/secrets/token", true),
        mount(&source.join("file"), "/etc/link", true),
        mount(&source, "/etc/localtime", true),
    ];
    run(inside, spec, image).await
}

/// It is made where it is missing, also in a volume.
async fn working_directory(inside: &Inside, image: &str) -> anyhow::Result<()> {
    let empty = inside.dir.join("empty-volume");
    std::fs::create_dir_all(&empty)?;
    for (directory, seen) in [
        ("work/here", "/work/here"),
        ("/var/run/app", "/run/nowhere/app"),
        ("/data/not/there", "/data/not/there"),
        ("/volume/not/there", "/volume/not/there"),
    ] {
        let script = format!("[ \"$(pwd -P)\" = {seen} ] || {{ pwd -P; exit 3; }}");
        let mut spec = inside.spec("directory", 0, &script);
        spec.working_dir = directory.to_owned();
        spec.mounts = vec![mount(&empty, "/volume", false)];
        spec.read_only_root = true;
        run(inside, spec, image).await?;
    }
    Ok(())
}
