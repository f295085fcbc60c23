//! `afloat image`: images from files, for clusters that have no registry.

use std::path::PathBuf;

use afloat_runtime::image::{BuildSpec, ImageStore};
use anyhow::Context as _;

use crate::args::{BuildOptions, ImageCommand, ImageOptions};

pub(crate) fn main(options: ImageOptions) -> anyhow::Result<i32> {
    let data_dir = crate::up::data_dir(options.data_dir.as_deref())?;
    crate::up::make_private_dir(&data_dir)?;
    let store = ImageStore::open(&data_dir.join("images"))?;
    let mut text = String::new();
    match options.command {
        ImageCommand::Build(build) => {
            let name = build.name.clone();
            let image = store
                .build(&spec(build))
                .with_context(|| format!("cannot build {name}"))?;
            let name = image.names.first().unwrap_or(&name);
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
        ImageCommand::Ls => {
            text = format!("{:<48} {:<20} {:>10}\n", "NAME", "IMAGE ID", "SIZE");
            for image in store.list()? {
                let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
                let mib = image.size_bytes.div_ceil(1024 * 1024);
                for name in &image.names {
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

fn spec(options: BuildOptions) -> BuildSpec {
    BuildSpec {
        name: options.name,
        files: options
            .files
            .into_iter()
            .map(|(source, target)| (PathBuf::from(source), target))
            .collect(),
        libraries: options.libraries,
        entrypoint: options.entrypoint,
        cmd: options.cmd,
        env: options
            .env
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        user: options.user,
        working_dir: options.working_dir,
        stop_signal: options.stop_signal,
        ..BuildSpec::default()
    }
}
