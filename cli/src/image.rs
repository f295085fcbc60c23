//! `afloat image`: images from files and from registries.

mod itself;
mod options;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use afloat_runtime::image::{BuildSpec, ImageStore, images_in_use, layers_in_use};
use afloat_runtime::registry::{HostNetwork, Keyring, Progress, Puller};
use anyhow::Context as _;

use crate::options::data_dir::{data_dir, make_private_dir};
use crate::options::registries::registry_options;
use options::{BuildOptions, ImageCommand, PullOptions};

pub(crate) use options::ImageOptions;

pub(crate) fn run_image(options: ImageOptions) -> anyhow::Result<i32> {
    if let ImageCommand::Build(build) = &options.command
        && let Some(path) = build.oci.clone()
    {
        let (name, id) = spec(build.clone())?
            .write_archive(&path)
            .with_context(|| format!("cannot write --oci {}", path.display()))?;
        crate::output::print(&format!("{name} {id}\n"))?;
        return Ok(0);
    }
    let data_dir = data_dir(options.data_dir.as_deref())?;
    make_private_dir(&data_dir)?;
    let store = ImageStore::open(&data_dir.join("images"))?;
    let mut text = String::new();
    match options.command {
        ImageCommand::Build(build) => {
            let spec = spec(build)?;
            let image = store
                .build(&spec)
                .with_context(|| format!("cannot build {}", spec.name))?;
            let name = image.names.first().unwrap_or(&spec.name);
            text = format!("{name} {}\n", image.id);
        }
        ImageCommand::Load { path } => {
            for image in store
                .load(&path)
                .with_context(|| format!("cannot load {}", path.display()))?
            {
                text.push_str(&format!("{} {}\n", image.names.join(" "), image.id));
            }
        }
        ImageCommand::Pull(pull) => text = pull_image(store, pull)?,
        ImageCommand::Prune { all } => text = prune(&store, &data_dir.join("nodes"), all)?,
        ImageCommand::Ls => {
            text = format!("{:<48} {:<20} {:>10}\n", "NAME", "IMAGE ID", "SIZE");
            let images = store.list()?;
            for image in images {
                let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
                let mib = image.size_bytes.div_ceil(1024 * 1024);
                let nameless = ["<none>".to_owned()];
                let names = if image.names.is_empty() {
                    &nameless
                } else {
                    image.names.as_slice()
                };
                for name in names {
                    text.push_str(&format!("{name:<48} {id:<20} {mib:>6} MiB\n"));
                }
            }
        }
        ImageCommand::Rm { name } => {
            let removed = store.remove(&name)?;
            anyhow::ensure!(removed, "there is no image called {name}; `afloat image ls` lists them");
        }
    }
    crate::output::print(&text)?;
    Ok(0)
}

fn pull_image(store: ImageStore, options: PullOptions) -> anyhow::Result<String> {
    let mut keyring = Keyring::default();
    if let Some(path) = &options.credentials {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let added = keyring.add_config_json(&bytes).map_err(anyhow::Error::msg);
        added.with_context(|| format!("{} is not a config.json of Docker", path.display()))?;
    }
    let puller = Puller::new(
        Arc::new(store),
        Arc::new(HostNetwork),
        registry_options(&options.registries),
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let pulled = runtime.block_on(async {
        let progress = Progress::default();
        tokio::select! {
            pulled = puller.pull(&options.name, &keyring, &progress) => pulled.map_err(anyhow::Error::from),
            never = show(&progress) => match never {},
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    let pulled = pulled.with_context(|| format!("cannot pull {}", options.name))?;
    let word = if pulled.up_to_date { "is up to date" } else { "pulled" };
    let name = afloat_runtime::image::normalise(&options.name)?;
    Ok(format!("{name} {} {word}\n", pulled.image.id))
}

/// Draws a bar on a terminal; indicatif draws none elsewhere.
async fn show(progress: &Progress) -> std::convert::Infallible {
    let bar = indicatif::ProgressBar::no_length();
    if let Ok(style) = indicatif::ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        bar.set_style(style);
    }
    let bar = Cleared(bar);
    loop {
        let total = progress.total.load(Ordering::Relaxed);
        if total > 0 {
            bar.0.set_length(total);
            bar.0.set_position(progress.done.load(Ordering::Relaxed).min(total));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Takes the bar away, also when the drawing is dropped.
struct Cleared(indicatif::ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn prune(store: &ImageStore, nodes: &Path, all: bool) -> anyhow::Result<String> {
    let mut images = 0;
    if all {
        let used = images_in_use(nodes);
        for image in store.list()? {
            if store.is_pulled(&image)? && !used.contains(&image.id) && store.remove(&image.id)? {
                images += 1;
            }
        }
    }
    let layers = store.prune(&layers_in_use(nodes))?;
    Ok(format!("removed {images} images and {layers} layers\n"))
}

fn spec(options: BuildOptions) -> anyhow::Result<BuildSpec> {
    let env = options
        .env
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if options.itself {
        return itself::spec(options.name, env, options.stop_signal);
    }
    Ok(BuildSpec {
        name: options.name.unwrap_or_default(),
        files: options
            .files
            .into_iter()
            .map(|(source, target)| (PathBuf::from(source), target))
            .collect(),
        libraries: options.libraries,
        entrypoint: options.entrypoint,
        cmd: options.cmd,
        env,
        user: options.user,
        working_dir: options.working_dir,
        stop_signal: options.stop_signal,
        ..BuildSpec::default()
    })
}
