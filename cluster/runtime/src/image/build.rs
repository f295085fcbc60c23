//! Builds an image from files of this machine: no Dockerfile, no registry, no root.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::config::{ConfigFile, ConfigSection, RootFs, architecture};
use super::layer::most_of;
use super::lease::Lease;
use super::name::normalise;
use super::store::{ImageStore, Names};
use super::{Image, ImageError, library};
use crate::removal::remove_all;

/// More sources than this share one layer.
const LAYERS_MAX: usize = 16;
/// What a container finds without an ENV of its own.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What an image is made of.
#[derive(Clone, Debug, Default)]
pub struct BuildSpec {
    /// Its name, for example `web:v1`.
    pub name: String,
    /// Files or directories of this machine, and where each is put (absolute). Each makes a layer of its own, so that
    /// images that differ in one file share the others.
    pub files: Vec<(PathBuf, String)>,
    /// Add the shared libraries that the programs among them need.
    pub libraries: bool,
    /// ENTRYPOINT.
    pub entrypoint: Vec<String>,
    /// CMD.
    pub cmd: Vec<String>,
    /// ENV as `NAME=value`.
    pub env: Vec<String>,
    /// USER.
    pub user: String,
    /// WORKDIR.
    pub working_dir: String,
    /// STOPSIGNAL.
    pub stop_signal: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// One entry of a layer.
pub(super) enum Content {
    Directory,
    File { source: PathBuf, executable: bool },
    Link(PathBuf),
}

pub(super) type Tree = BTreeMap<PathBuf, Content>;

impl ImageStore {
    /// Makes an image of files. The same files give the same id.
    ///
    /// # Errors
    /// A bad name, a file that cannot be read, a library that is missing.
    pub fn build(&self, spec: &BuildSpec) -> Result<Image, ImageError> {
        let _lease = Lease::everything(self)?;
        build(self, spec)
    }
}

fn build(store: &ImageStore, spec: &BuildSpec) -> Result<Image, ImageError> {
    let name = normalise(&spec.name)?;
    let mut diff_ids = Vec::new();
    for tree in &layers(spec)? {
        diff_ids.push(format!("sha256:{}", layer(store, tree)?));
    }
    let config = serde_json::to_vec(&config(spec, diff_ids)).map_err(|e| ImageError::bad(&spec.name, e.to_string()))?;
    store.add_image(&config, Names::Here(&[name]), &[])
}

/// What is in each layer, from the lowest.
pub(super) fn layers(spec: &BuildSpec) -> Result<Vec<Tree>, ImageError> {
    let mut trees = Vec::new();
    let mut libraries = BTreeSet::new();
    for (source, target) in &spec.files {
        let mut tree = Tree::new();
        add(&mut tree, source, &inside(source, target)?)?;
        if spec.libraries {
            for content in tree.values() {
                if let Content::File {
                    source,
                    executable: true,
                } = content
                {
                    libraries.extend(library::libraries(source)?);
                }
            }
        }
        trees.push(tree);
    }
    if trees.len() > LAYERS_MAX {
        trees = vec![trees.into_iter().flatten().collect()];
    }
    if !libraries.is_empty() {
        let mut tree = Tree::new();
        for path in libraries {
            let source = fs::canonicalize(&path).map_err(ImageError::io(&path))?;
            tree.insert(
                inside(&path, &path.to_string_lossy())?,
                Content::File {
                    source,
                    executable: true,
                },
            );
        }
        trees.insert(0, tree);
    }
    trees.iter_mut().for_each(add_parents);
    Ok(trees)
}

/// No time in it: the same files are the same image.
pub(super) fn config(spec: &BuildSpec, diff_ids: Vec<String>) -> ConfigFile {
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    let mut env = spec.env.clone();
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.insert(0, DEFAULT_PATH.to_owned());
    }
    ConfigFile {
        architecture: architecture().to_owned(),
        os: "linux".to_owned(),
        config: Some(ConfigSection {
            user: spec.user.clone(),
            env: Some(env),
            entrypoint: some(&spec.entrypoint),
            cmd: some(&spec.cmd),
            working_dir: spec.working_dir.clone(),
            stop_signal: spec.stop_signal.clone(),
            labels: (!spec.labels.is_empty()).then(|| spec.labels.clone()),
            volumes: None,
        }),
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids,
        },
    }
}

/// A target path, relative to the root.
fn inside(source: &Path, target: &str) -> Result<PathBuf, ImageError> {
    let path = Path::new(target);
    let plain = path
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::CurDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        return Err(ImageError::bad(
            source,
            format!("its place in the image, {target:?}, is not an absolute path without `..`"),
        ));
    }
    Ok(path
        .components()
        .filter(|c| matches!(c, Component::Normal(_)))
        .collect())
}

fn add(tree: &mut Tree, source: &Path, target: &Path) -> Result<(), ImageError> {
    // What is named itself is followed if it is a link; links inside of a directory stay links.
    let metadata = fs::metadata(source).map_err(ImageError::io(source))?;
    if metadata.is_file() {
        let executable = metadata.permissions().mode() & 0o111 != 0;
        tree.insert(
            target.to_owned(),
            Content::File {
                source: source.to_owned(),
                executable,
            },
        );
        return Ok(());
    }
    if !metadata.is_dir() {
        return Err(ImageError::bad(source, "is neither a file nor a directory"));
    }
    tree.insert(target.to_owned(), Content::Directory);
    let entries = fs::read_dir(source).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    // No folder stays open while those in it are read.
    for entry in entries.map_err(ImageError::io(source))? {
        let path = entry.path();
        let Some(name) = path.file_name() else { continue };
        let inner = target.join(name);
        if path.is_symlink() {
            let link = fs::read_link(&path).map_err(ImageError::io(&path))?;
            tree.insert(inner, Content::Link(link));
        } else {
            add(tree, &path, &inner)?;
        }
    }
    Ok(())
}

fn add_parents(tree: &mut Tree) {
    let parents: BTreeSet<PathBuf> = tree
        .keys()
        .flat_map(|path| path.ancestors().skip(1).map(Path::to_owned))
        .collect();
    for parent in parents {
        tree.entry(parent).or_insert(Content::Directory);
    }
    tree.remove(Path::new(""));
}

/// Answers the layer's diffID. The tar is only hashed at first: most often the layer is there already.
fn layer(store: &ImageStore, tree: &Tree) -> Result<String, ImageError> {
    let diff_id = hex::encode(write_tar(tree, Hasher(Sha256::new()))?.0.finalize());
    if store.has_layer(&diff_id) {
        return Ok(diff_id);
    }
    let dir = store.temporary()?;
    let result = (|| {
        let path = dir.join("layer.tar");
        let file = File::create(&path).map_err(ImageError::io(&path))?;
        write_tar(tree, io::BufWriter::new(file))?
            .flush()
            .map_err(ImageError::io(&path))?;
        store.add_layer(io::BufReader::new(File::open(&path).map_err(ImageError::io(&path))?))
    })();
    let _ = remove_all(&dir);
    result
}

struct Hasher(Sha256);

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) fn write_tar<W: Write>(tree: &Tree, out: W) -> Result<W, ImageError> {
    let mut tar = tar::Builder::new(out);
    for (path, content) in tree {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        let written = match content {
            Content::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(if path == Path::new("tmp") { 0o1777 } else { 0o755 });
                tar.append_data(&mut header, path, io::empty())
            }
            Content::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_mode(0o777);
                tar.append_link(&mut header, path, target)
            }
            Content::File { source, executable } => {
                let (file, size) = open(source)?;
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(size);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                tar.append_data(
                    &mut header,
                    path,
                    io::BufReader::with_capacity(1 << 17, file.take(size)),
                )
            }
        };
        written.map_err(ImageError::io(path))?;
    }
    tar.into_inner().map_err(ImageError::io("tar"))
}

/// A file as large as it is now. What has become a pipe or a device since it was found is refused, not waited for, and so is what is
/// almost nothing but holes.
fn open(source: &Path) -> Result<(File, u64), ImageError> {
    let mut options = File::options();
    options
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY);
    let file = options.open(source).map_err(ImageError::io(source))?;
    let metadata = file.metadata().map_err(ImageError::io(source))?;
    if !metadata.is_file() {
        return Err(ImageError::bad(source, "is neither a file nor a directory"));
    }
    if metadata.len() > most_of(metadata.blocks().saturating_mul(512)) {
        return Err(ImageError::bad(
            source,
            format!("has {} bytes, almost all of them holes", metadata.len()),
        ));
    }
    Ok((file, metadata.len()))
}
