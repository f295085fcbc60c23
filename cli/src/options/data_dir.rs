//! The folder that a cluster keeps its state in.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The folder the user named, or the usual one: `/var/lib/afloat` for root, `$XDG_DATA_HOME/afloat` otherwise.
pub(crate) fn data_dir(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    let dir = match named {
        Some(dir) => dir.to_path_buf(),
        None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/afloat"),
        None => match (std::env::var_os("XDG_DATA_HOME"), std::env::var_os("HOME")) {
            (Some(dir), _) if !dir.is_empty() => PathBuf::from(dir).join("afloat"),
            (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".local/share/afloat"),
            _ => anyhow::bail!("no folder for the data: say --data-dir DIR, or set HOME"),
        },
    };
    std::path::absolute(&dir).with_context(|| format!("--data-dir {}", dir.display()))
}

/// Makes a folder that only its owner may look into. One that others may enter is closed, with a word; what is not ours to close is refused.
pub(crate) fn make_private_dir(dir: &Path) -> anyhow::Result<()> {
    let closed = afloat_runtime::host::private_dir(dir)
        .with_context(|| format!("the folder {} (say --data-dir DIR to use another)", dir.display()))?;
    if let Some(mode) = closed {
        eprintln!(
            "the folder {} was open to others (mode {mode:04o}); it is its owner's alone now",
            dir.display()
        );
    }
    if let Ok(Some((above, why))) = afloat_runtime::host::exposed_above(dir) {
        eprintln!(
            "the folder {} is not safe from others: {why} {}, above it, and could put another folder in its place (say --data-dir DIR to use another)",
            dir.display(),
            above.display()
        );
    }
    Ok(())
}
