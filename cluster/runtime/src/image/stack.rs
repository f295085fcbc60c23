//! Which folders an overlay is made of for an image.
//!
//! A layer is stored once, for all images that have it; what an image makes of it is seen here. Three things are not as in the list of
//! layers: one that is in it twice is mounted once (the kernel refuses the rest: "conflicting lowerdir"); what is below a layer that hides
//! everything is left out; and where a layer has no entry for a folder, the folder's mode and owner are those of the layers below, which
//! an overlay does not look at. For those folders a layer is added on top that has nothing but them, and for those whose whiteouts would
//! be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fstat, getxattr,
    listxattr, lsetxattr, utimensat,
};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::ImageError;
use super::layer::Notes;
use super::merged::{Seen, look};
use super::store::ImageStore;
use crate::below::{Links, find, folder};
use crate::removal::remove_all;

/// So much may the names of a folder's attributes take, and each of their values (limits of the kernel).
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

impl ImageStore {
    fn notes(&self, diff_id: &str) -> Result<Notes, ImageError> {
        let path = self.dir.join("layers").join(diff_id).join("notes");
        match fs::read(&path) {
            Ok(bytes) => Ok(Notes::of(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Notes::default()),
            Err(error) => Err(ImageError::io(path)(error)),
        }
    }

    /// What an overlay is made of for these layers, lowest first. The store is locked: nobody removes what is made here.
    pub(super) fn stack(&self, layers: &[String]) -> Result<Vec<String>, ImageError> {
        let mut notes = BTreeMap::new();
        for layer in layers {
            notes.insert(layer.as_str(), self.notes(layer)?);
        }
        let hides_all = |layer: &str| {
            notes
                .get(layer)
                .is_some_and(|notes| notes.opaque.contains(Path::new("")))
        };
        let mut counting = counting(layers, hides_all);
        counting.reverse();
        let paths: Vec<PathBuf> = counting.iter().map(|layer| self.layer(layer)).collect();
        let notes: Vec<Notes> = counting.iter().filter_map(|layer| notes.remove(layer)).collect();
        let folders = corrections(&paths, &notes).map_err(ImageError::io(&self.dir))?;
        let mut stack: Vec<String> = counting.into_iter().rev().map(str::to_owned).collect();
        if !folders.is_empty() {
            let name = name_of(&folders);
            if !self.has_layer(&name) {
                let temporary = self.temporary()?;
                let root = temporary.join("fs");
                let made = fs::create_dir(&root).map_err(ImageError::io(&root));
                let made = made.and_then(|()| make(&root, &folders));
                let put = made.and_then(|()| self.put_layer(&temporary, &name, 0));
                let _ = remove_all(&temporary);
                put?;
            }
            stack.push(name);
        }
        Ok(stack)
    }
}

/// The layers that count, lowest first: the topmost of equal ones, down to one that hides all below it.
fn counting(layers: &[String], hides_all: impl Fn(&str) -> bool) -> Vec<&str> {
    let (mut seen, mut kept) = (BTreeSet::new(), Vec::new());
    for layer in layers.iter().rev() {
        if seen.insert(layer) {
            kept.push(layer.as_str());
            if hides_all(layer) {
                break;
            }
        }
    }
    kept.reverse();
    kept
}

/// What a folder is like.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attributes {
    mode: u32,
    owner: (u32, u32),
    extended: Vec<(Vec<u8>, Vec<u8>)>,
    modified: (i64, u32),
}

impl Attributes {
    fn of(folder: &OwnedFd) -> io::Result<Self> {
        let stat = fstat(folder)?;
        Ok(Self {
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            extended: extended(folder)?,
            modified: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        })
    }

    /// Times apart: those of a folder that was made by the way mean nothing.
    fn differs(&self, other: &Self) -> bool {
        (self.mode, self.owner, &self.extended) != (other.mode, other.owner, &other.extended)
    }
}

/// Extended attributes of a file or folder, sorted; those that mean something to an overlay or to the machine alone left out.
pub(crate) fn extended(file: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // A descriptor that only names something answers no such question itself.
    let path = &format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let mut names = vec![0_u8; ATTRIBUTE_BYTES_MAX];
    let length = match listxattr(path, &mut names[..]) {
        Err(Errno::OPNOTSUPP) | Ok(0) => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0) {
        let overlay = name.windows(8).any(|part| part == b"overlay.");
        if name.is_empty() || overlay || name.starts_with(b"trusted.") || name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0_u8; ATTRIBUTE_BYTES_MAX];
        let length = getxattr(path, name, &mut value[..])?;
        value.truncate(length);
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

/// A folder on the way to the one that is looked at.
struct Step {
    path: PathBuf,
    /// The layers that have a part of it, topmost first.
    parts: Vec<usize>,
}

/// Folders that an overlay of these layers, topmost first, would show with another mode, owner or attributes than the image is to have, and
/// those around them, as they are to be.
fn corrections(layers: &[PathBuf], notes: &[Notes]) -> io::Result<BTreeMap<PathBuf, Attributes>> {
    // In the order of their components: each is preceded by those around it.
    let noted = notes.iter().flat_map(|notes| notes.implied.iter().chain(&notes.hiding));
    let noted: BTreeSet<&PathBuf> = noted.filter(|path| !path.as_os_str().is_empty()).collect();
    if noted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let roots = layers
        .iter()
        .map(|layer| folder(layer))
        .collect::<io::Result<Vec<_>>>()?;
    let mut steps = vec![Step {
        path: PathBuf::new(),
        parts: (0..layers.len()).collect(),
    }];
    let mut wrong = BTreeMap::new();
    for path in noted {
        if !descend(layers, path, &mut steps)? {
            continue;
        }
        let Some(step) = steps.last() else { continue };
        let shown = Attributes::of(&find(&roots[step.parts[0]], path, Links::InRoot)?)?;
        // The kernel lists whiteouts by their names where a folder is in one layer alone.
        let bare = matches!(step.parts[..], [only] if notes[only].hiding.contains(path));
        if !bare && !told_by(&roots, notes, step)?.differs(&shown) {
            continue;
        }
        for around in steps.iter().skip(1) {
            if !wrong.contains_key(&around.path) {
                wrong.insert(around.path.clone(), told_by(&roots, notes, around)?);
            }
        }
    }
    Ok(wrong)
}

/// Goes to a folder from where the last one was. `false`: the image has none there in the end.
fn descend(layers: &[PathBuf], path: &Path, steps: &mut Vec<Step>) -> io::Result<bool> {
    while steps.last().is_some_and(|step| !path.starts_with(&step.path)) {
        steps.pop();
    }
    let depth = |path: &Path| path.components().count();
    let reached = steps.last().map_or(0, |step| depth(&step.path));
    let mut so_far: PathBuf = path.iter().take(reached).collect();
    for name in path.iter().skip(reached) {
        so_far.push(name);
        let visible = steps.last().map_or(&[][..], |step| &step.parts);
        match look(layers, visible, &so_far)? {
            Seen::Folder(parts) => steps.push(Step {
                path: so_far.clone(),
                parts,
            }),
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// What a folder is to be like: as its topmost entry says. Lower layers are looked at one by one and as root file systems of their own, whatever
/// lies between: so does containerd when it makes a folder that has no entry.
fn told_by(roots: &[OwnedFd], notes: &[Notes], step: &Step) -> io::Result<Attributes> {
    let shown = step.parts[0];
    if notes[shown].implied.contains(&step.path) {
        for (root, notes) in roots.iter().zip(notes).skip(shown + 1) {
            let found = match find(root, &step.path, Links::InRoot) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                // It is something else there, or below something else.
                Err(_) => break,
            };
            if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::Directory {
                break;
            }
            if !notes.implied.contains(&step.path) {
                return Attributes::of(&found);
            }
        }
    }
    Attributes::of(&find(&roots[shown], &step.path, Links::InRoot)?)
}

/// The name of a layer that has these folders alone.
fn name_of(folders: &BTreeMap<PathBuf, Attributes>) -> String {
    hex::encode(Sha256::digest(format!("folders {folders:?}")))
}

/// Makes the folders below `root`, which is empty.
fn make(root: &Path, folders: &BTreeMap<PathBuf, Attributes>) -> Result<(), ImageError> {
    for path in folders.keys() {
        let path = root.join(path);
        fs::create_dir(&path).map_err(ImageError::io(path))?;
    }
    // Inner ones first: they change the time of the outer one, which may forbid it as well.
    for (path, attributes) in folders.iter().rev() {
        let path = root.join(path);
        apply(&path, attributes).map_err(ImageError::io(path))?;
    }
    Ok(())
}

fn apply(path: &Path, attributes: &Attributes) -> io::Result<()> {
    let (uid, gid) = attributes.owner;
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    match chownat(CWD, path, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(()) | Err(Errno::PERM | Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    for (name, value) in &attributes.extended {
        let _ = lsetxattr(path, &name[..], value, XattrFlags::empty());
    }
    chmodat(CWD, path, Mode::from_raw_mode(attributes.mode), AtFlags::empty())?;
    let time = Timespec {
        tv_sec: attributes.modified.0,
        tv_nsec: attributes.modified.1.into(),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_counts_once_and_what_is_hidden_not_at_all() {
        let layers = ["a", "b", "a", "c", "b"].map(str::to_owned);
        assert_eq!(counting(&layers, |_| false), ["a", "c", "b"]);
        assert_eq!(counting(&layers, |layer| layer == "c"), ["c", "b"]);
        assert!(counting(&[], |_| true).is_empty());
    }
}
