//! Images as containers see them, from a registry on the host's loopback, and a disk that is too small for them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use afloat_runtime::Runtime as _;
use afloat_runtime::host::Inherited;
use afloat_runtime::image::{ImageStore, Thresholds};
use afloat_runtime::oci::ImageService;
use afloat_runtime::registry::{Keyring, Network, Progress, PullError, Puller, RegistryOptions};
use anyhow::{Context as _, ensure};
use rustix::mount::{MountFlags, mount};

use crate::inner::Inside;
use crate::registry::{Registry, gzip, layer};

/// Far more than short options of a mount could name.
const LAYERS: usize = 130;

type Layer = (Vec<u8>, Vec<u8>);

pub(crate) async fn play(inside: &Inside, inherited: &Inherited) -> anyhow::Result<()> {
    let broker = inherited.broker.clone();
    let found = Network::resolve(&broker, "localhost").await?;
    ensure!(found.iter().any(std::net::IpAddr::is_loopback), "{found:?}");
    let listener = tokio::task::spawn_blocking({
        let broker = broker.clone();
        move || broker.listen(([127, 0, 0, 1], 0).into())
    })
    .await??;
    // By its name, which only the host can resolve to what it means.
    let port = listener.local_addr()?.port();
    let registry = Registry::start_on(listener, None);
    let network: Arc<dyn Network> = Arc::new(broker);
    crate::strangers::play(inside).await?;
    many_layers(inside, &registry, &network, port).await?;
    full_disk(inside, &registry, &network, port).await?;
    println!("images are right");
    Ok(())
}

fn puller(dir: &Path, network: &Arc<dyn Network>) -> anyhow::Result<(Arc<ImageStore>, Puller)> {
    let store = Arc::new(ImageStore::open(dir)?);
    let puller = Puller::new(store.clone(), network.clone(), RegistryOptions::default());
    Ok((store, puller))
}

async fn many_layers(
    inside: &Inside,
    registry: &Registry,
    network: &Arc<dyn Network>,
    port: u16,
) -> anyhow::Result<()> {
    let mut layers = own_layers(inside)?;
    let both = |plain: Vec<u8>| (plain.clone(), gzip(&plain));
    layers.push(both(layer(&[
        ("gone/file", b"below"),
        ("opaque/below", b"below"),
        ("opaque/deep/below", b"below"),
        ("dir/file", b"a directory becomes a file"),
        ("file", b"below"),
    ])));
    layers.push(both(links()?));
    for number in 0..LAYERS {
        let (path, text) = (format!("n/{number}"), number.to_string());
        layers.push(both(layer(&[(&path, text.as_bytes()), ("last", text.as_bytes())])));
    }
    layers.push(both(layer(&[
        ("n/.wh.7", b""),
        (".wh.gone", b""),
        ("opaque/.wh..wh..opq", b""),
        ("opaque/above", b"above"),
        (".wh.dir", b""),
        ("links/one", b"replaced"),
    ])));
    // What was taken away comes again, as something else.
    layers.push(both(layer(&[("dir", b"file"), ("gone/again", b"above")])));
    registry.image("many", "v1", &layers, &[]);
    let (_, puller) = puller(&inside.dir.join("images"), network)?;
    let name = format!("localhost:{port}/many:v1");
    let pulled = puller.pull(&name, &Keyring::default(), &Progress::default()).await?;
    inside.sandbox().await?;
    let last = LAYERS - 1;
    let script = format!(
        "set -e; is() {{ [ \"$(cat $1)\" = \"$2\" ] || {{ echo $1; exit 3; }}; }}; no() {{ [ ! -e $1 ] || {{ echo $1; exit 4; }}; }}
         is /last {last}; is /n/0 0; is /n/{last} {last}; no /n/7; is /file below
         no /gone/file; is /gone/again above; no /opaque/below; no /opaque/deep; is /opaque/above above; is /dir file
         is /links/one replaced; is /links/two linked; is /links/three linked
         [ /links/two -ef /links/three ] || exit 5"
    );
    let mut spec = inside.spec("many", 0, &script);
    spec.image_id = pulled.image.id;
    let id = inside.runtime.create_container(&spec).await?;
    inside.runtime.start_container(&id).await?;
    let end = inside.end_of(&id).await?;
    let log = tokio::fs::read_to_string(&spec.log_path).await.unwrap_or_default();
    ensure!(end.code == 0, "code {}: {log}", end.code);
    inside.runtime.remove_container(&id).await?;
    Ok(())
}

/// A file with three names.
fn links() -> anyhow::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let header = |kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(7);
        header
    };
    builder.append_data(&mut header(tar::EntryType::Regular, 7), "links/one", &b"linked\n"[..])?;
    for name in ["links/two", "links/three"] {
        builder.append_link(&mut header(tar::EntryType::Link, 0), name, "links/one")?;
    }
    Ok(builder.into_inner()?)
}

/// The shell's layers, as tars.
pub(crate) fn own_layers(inside: &Inside) -> anyhow::Result<Vec<Layer>> {
    let dir = inside.dir.join("images/layers");
    let mut layers = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let mut builder = tar::Builder::new(Vec::new());
        builder.follow_symlinks(false);
        builder.append_dir_all("", entry?.path().join("fs"))?;
        let plain = builder.into_inner()?;
        layers.push((plain.clone(), gzip(&plain)));
    }
    Ok(layers)
}

/// Too small for what comes, and for what it becomes.
async fn full_disk(inside: &Inside, registry: &Registry, network: &Arc<dyn Network>, port: u16) -> anyhow::Result<()> {
    let dir = inside.dir.join("small");
    std::fs::create_dir(&dir)?;
    mount("tmpfs", &dir, "tmpfs", MountFlags::empty(), c"size=8m")?;
    let zeros = layer(&[("zeros", &vec![0; 12 << 20])]);
    let plain = layer(&[("blob", &vec![1; 12 << 20])]);
    registry.image("unpacked", "v1", &[(zeros.clone(), gzip(&zeros))], &[]);
    registry.image("fetched", "v1", &[(plain.clone(), plain)], &[]);
    let small = layer(&[("small", b"small")]);
    registry.image("small", "v1", &[(small.clone(), small)], &[]);
    let (store, puller) = puller(&dir, network)?;
    let count = |of: &str| std::fs::read_dir(dir.join(of)).map(Iterator::count);
    for name in ["unpacked", "fetched"] {
        let reference = format!("localhost:{port}/{name}:v1");
        let error = puller.pull(&reference, &Keyring::default(), &Progress::default()).await;
        let error = error.err().with_context(|| format!("{name} fits"))?;
        ensure!(matches!(error, PullError::DiskFull(_)), "{name}: {error}");
        ensure!(error.to_string().contains("no space left"), "{error}");
        ensure!(
            count("tmp")? == 0 && count("layers")? == 0 && count("leases")? == 0,
            "{name} left something"
        );
    }
    let reference = format!("localhost:{port}/small:v1");
    puller
        .pull(&reference, &Keyring::default(), &Progress::default())
        .await?;
    ensure!(store.list()?.len() == 1);
    pressure(inside, &dir, store).await
}

/// The rest of the disk is taken by something else: the image goes, and as that does not help, the node says so.
async fn pressure(inside: &Inside, dir: &Path, store: Arc<ImageStore>) -> anyhow::Result<()> {
    let thresholds = Thresholds {
        minimum_age: Duration::ZERO,
        ..Thresholds::default()
    };
    let service = ImageService::new(store.clone(), None, thresholds, inside.dir.join("nodes"));
    inside.runtime.use_images(&service);
    ensure!(!inside.runtime.disk_pressure());
    let other = dir.join("other");
    std::fs::write(&other, vec![1; 15 << 19])?;
    let running = tokio::spawn(service.run());
    until("pressure", || inside.runtime.disk_pressure()).await?;
    ensure!(store.list()?.is_empty(), "an unused image is kept");
    ensure!(std::fs::read_dir(dir.join("layers"))?.count() == 0, "its layer is kept");
    std::fs::remove_file(other)?;
    until("no pressure", || !inside.runtime.disk_pressure()).await?;
    running.abort();
    Ok(())
}

async fn until(what: &str, condition: impl Fn() -> bool) -> anyhow::Result<()> {
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while !condition() {
        ensure!(tokio::time::Instant::now() < end, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
