//! What an image's layers make together, looked at without mounting them. The rules are the overlay's.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Stat, lgetxattr, readlinkat, statat};
use rustix::io::Errno;

use super::ImageError;
use crate::below::{plain, text};

/// The overlay's marks for folders that hide what is below them; ours for `userxattr` mounts, the other one for those that are not.
pub(super) const OPAQUE_MARKS: [&str; 2] = ["user.overlay.opaque", "trusted.overlay.opaque"];
/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// What a name in a folder is.
pub(super) enum Seen {
    Nothing,
    /// Those of the layers that have a part of it, topmost first.
    Folder(Vec<usize>),
    Link(PathBuf),
    /// Something else, in this layer.
    Other(usize),
}

/// Looks at `folder/name`. `visible`: the layers, topmost first, that have a part of the folder.
pub(super) fn look(layers: &[PathBuf], visible: &[usize], path: &Path) -> io::Result<Seen> {
    let mut parts = Vec::new();
    for layer in visible {
        let place = layers[*layer].join(path);
        let stat = match statat(CWD, &place, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // An ordinary user may not look into every folder of an image.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => continue,
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            parts.push(*layer);
            if is_opaque(&place) {
                break;
            }
        } else if !parts.is_empty() {
            break;
        } else if kind == FileType::Symlink {
            let target = readlinkat(CWD, &place, Vec::new())?;
            return Ok(Seen::Link(PathBuf::from(text(&target))));
        } else if is_whiteout(&stat) {
            return Ok(Seen::Nothing);
        } else {
            return Ok(Seen::Other(*layer));
        }
    }
    Ok(if parts.is_empty() {
        Seen::Nothing
    } else {
        Seen::Folder(parts)
    })
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether a folder hides what lower layers have in it.
pub(super) fn is_opaque(folder: &Path) -> bool {
    let mut value = [0_u8; 1];
    let is_set = |mark: &&str| lgetxattr(folder, *mark, &mut value[..]) == Ok(1) && value == *b"y";
    OPAQUE_MARKS.iter().any(is_set)
}

/// Where something is that is no folder: in which of the layers (topmost first), and under which path there. Links are followed as in a
/// container. None: nothing is there, or a folder.
pub(super) fn find(layers: &[PathBuf], path: &Path) -> Result<Option<(PathBuf, PathBuf)>, ImageError> {
    let all: Vec<usize> = (0..layers.len()).collect();
    let mut wanted = plain(path);
    for _ in 0..LINKS_MAX {
        let (mut visible, mut so_far, mut link) = (all.clone(), PathBuf::new(), None);
        for (number, name) in wanted.iter().enumerate() {
            so_far.push(name);
            match look(layers, &visible, &so_far).map_err(ImageError::io(path))? {
                Seen::Nothing => return Ok(None),
                Seen::Folder(parts) => visible = parts,
                Seen::Link(target) => {
                    let rest: PathBuf = wanted.iter().skip(number + 1).collect();
                    let start = so_far.parent().unwrap_or(Path::new(""));
                    link = Some(plain(&start.join(target).join(rest)));
                    break;
                }
                Seen::Other(layer) if so_far == wanted => return Ok(Some((layers[layer].clone(), so_far))),
                Seen::Other(_) => return Ok(None),
            }
        }
        match link {
            Some(next) => wanted = next,
            None => return Ok(None),
        }
    }
    Ok(None)
}
