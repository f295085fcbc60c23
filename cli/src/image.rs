//! `afloat image`: images from files, for clusters that have no registry.

use std::path::PathBuf;

use afloat_runtime::image::{BuildSpec, ImageStore};
use anyhow::Context as _;

use crate::args::{BuildOptions, ImageCommand, ImageOptions};

#[allow(clippy::print_stdout)] // the command's own output
pub(crate) fn main(options: ImageOptions) -> anyhow::Result<i32> {
    let data_dir = crate::up::data_dir(options.data_dir.as_deref())?;
    crate::up::make_private_dir(&data_dir)?;
    let store = ImageStore::open(&data_dir.join("images"))?;
    match options.command {
        ImageCommand::Build(build) => {
            let name = build.name.clone();
            let image = store
                .build(&spec(build))
                .with_context(|| format!("cannot build {name}"))?;
            println!(
                "{} {}",
                image.names.first().map_or(name.as_str(), String::as_str),
                image.id
            );
        }
        ImageCommand::Load { path } => {
            for image in store
                .load(&path)
                .with_context(|| format!("cannot load {}", path.display()))?
            {
                println!("{} {}", image.names.join(" "), image.id);
            }
        }
        ImageCommand::Ls => {
            println!("{:<48} {:<20} {:>10}", "NAME", "IMAGE ID", "SIZE");
            for image in store.list()? {
                let id = image.id.strip_prefix("sha256:").unwrap_or(&image.id);
                for name in &image.names {
                    println!(
                        "{name:<48} {:<20} {:>6} MiB",
                        &id[..id.len().min(12)],
                        image.size_bytes.div_ceil(1024 * 1024)
                    );
                }
            }
        }
        ImageCommand::Rm { name } => {
            anyhow::ensure!(
                store.remove(&name)?,
                "there is no image called {name}; `afloat image ls` lists them"
            );
        }
    }
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
