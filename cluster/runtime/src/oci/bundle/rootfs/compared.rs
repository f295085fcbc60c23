//! What images become here beside what containerd's unpacker makes of the same ones.
//!
//! Needs containerd and its `ctr`, and root; where they are not, it says so and is done.

#![allow(clippy::print_stdout)] // says what was skipped and how much was compared

mod containerd;
mod made;
mod shapes;
mod stacks;
mod tree;

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use self::containerd::Containerd;
use self::made::Packed;
use super::{mount_rootfs, unmount_rootfs};
use crate::image::ImageStore;

type Result<T = ()> = anyhow::Result<T>;

/// How many random stacks of layers are compared.
const STACKS: u64 = 120;
/// Another number tries other ones.
const SEED: u64 = 20;

/// Runs in a mount namespace of its own: whatever happens, no mount is left. `None`: containerd is not here.
fn beside_containerd(test: impl FnOnce(&Path, &Containerd) -> Result + Send) -> Result {
    let run = || -> Result {
        let dir = tempfile::tempdir()?;
        if !rustix::process::geteuid().is_root() {
            println!("skipped: only root can mount what containerd makes");
            return Ok(());
        }
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)?;
        let private = rustix::mount::MountPropagationFlags::REC | rustix::mount::MountPropagationFlags::PRIVATE;
        rustix::mount::mount_change("/", private)?;
        match Containerd::start(&dir.path().join("containerd"))? {
            Some(containerd) => test(dir.path(), &containerd),
            None => {
                println!("skipped: containerd is not installed");
                Ok(())
            }
        }
    };
    std::thread::scope(|scope| {
        scope
            .spawn(run)
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Both trees of an image, or what containerd says against it.
fn compare(
    dir: &Path,
    containerd: &Containerd,
    name: &str,
    layers: &[Packed],
) -> Result<std::result::Result<(), String>> {
    let archive = dir.join(format!("{name}.tar"));
    made::write_archive(&archive, name, layers)?;
    let theirs = dir.join("theirs");
    fs::create_dir_all(&theirs)?;
    let reference = format!("docker.io/library/{name}:v1");
    if let Err(refused) = containerd.mount(&archive, &reference, &theirs)? {
        return Ok(Err(refused));
    }
    let wanted = tree::of(&theirs, true).with_context(|| format!("{name}: containerd's tree"));
    containerd.unmount(&theirs)?;
    let store = ImageStore::open(&dir.join("images"))?;
    let image = store
        .load(&archive)
        .with_context(|| format!("{name}: loading it"))?
        .remove(0);
    let own = dir.join("own");
    fs::create_dir_all(&own)?;
    let stack = store.pin(&image.id, &own.join("note"))?.layers;
    let root = mount_rootfs(&own, &stack, false).with_context(|| format!("{name}: mounting it"))?;
    let got = tree::of(&root, false).with_context(|| format!("{name}: our tree"));
    unmount_rootfs(&own);
    crate::removal::remove_all(&own)?;
    fs::remove_file(&archive)?;
    let differences = tree::differences(&wanted?, &got?);
    let listings: Vec<_> = layers.iter().map(|layer| layer.listing.as_str()).collect();
    anyhow::ensure!(
        differences.is_empty(),
        "{name}: containerd's, ours:\n{}\nof the layers\n{}",
        differences.join("\n"),
        listings.join("\n--\n")
    );
    Ok(Ok(()))
}

#[test]
fn random_layers_become_what_containerd_makes_of_them() -> Result {
    beside_containerd(|dir, containerd| {
        let mut refused = 0;
        for number in 0..STACKS {
            let layers = stacks::random(SEED * 1_000_000 + number);
            let told = compare(dir, containerd, &format!("stack{number}"), &layers)?;
            refused += u64::from(told.is_err());
        }
        println!("{} stacks compared, {refused} refused by containerd", STACKS - refused);
        anyhow::ensure!(refused < STACKS / 2, "containerd refused {refused} of {STACKS}");
        Ok(())
    })
}

#[test]
fn images_as_they_are_become_what_containerd_makes_of_them() -> Result {
    beside_containerd(|dir, containerd| {
        for (name, layers) in shapes::all()? {
            if let Err(refused) = compare(dir, containerd, name, &layers)? {
                anyhow::bail!("{name}: containerd refuses it: {refused}");
            }
        }
        Ok(())
    })
}
