//! OCI runtimes beside each other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use afloat_runtime::image::ImageStore;
use afloat_runtime::oci::time_alone;

use crate::bench::timed::Verb;

/// Other runtimes that may be installed.
const OTHERS: [&str; 2] = ["crun", "runc"];

/// Makes containers of an image with each runtime that there is, one after another.
pub(super) async fn measure(data_dir: &Path, image: &str, rounds: u32) -> anyhow::Result<BTreeMap<String, Verb>> {
    let images = ImageStore::open(&data_dir.join("images"))?;
    let others = OTHERS.into_iter().filter_map(|name| Some((name, installed(name)?)));
    let all = std::iter::once(("afloat", PathBuf::from("/proc/self/exe"))).chain(others);
    let mut figures = BTreeMap::new();
    for (name, program) in all {
        match time_alone(&program, &images, image, data_dir.join("alone"), rounds).await {
            Ok(times) => drop(figures.insert(name.to_owned(), Verb::of(times))),
            // A version that does not run here is none of ours.
            Err(error) if name != "afloat" => eprintln!("afloat: {name}: {error}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(figures)
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}
