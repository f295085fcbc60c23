//! What is named on the command line: files, standard input, folders with all below them. Charts of Helm and kustomizations in a
//! folder are rendered, where their tools are there; what is no object is let by, and counted.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::input::{Read, Strictness, parse};
use super::render::{self, Rendered, Source};

/// What folders had besides objects.
#[derive(Default)]
struct Aside {
    /// Files with documents that are no objects, and how many of those.
    files: BTreeSet<PathBuf>,
    documents: usize,
    /// What could not be rendered, and why.
    notes: Vec<String>,
}

/// Reads what is named. What was let by is told on standard error.
///
/// # Errors
/// Names the file, the document and the field that cannot be read; or there is no object at all.
pub(crate) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Read>> {
    let mut found = Vec::new();
    let mut aside = Aside::default();
    for path in files {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .context("cannot read standard input")?;
            parse("standard input", &text, Strictness::All, &mut found)?;
        } else if path.is_dir() {
            let before = found.len();
            folder(path, path, &render::kustomizations(path), &mut found, &mut aside)?;
            anyhow::ensure!(
                found.len() > before,
                "{}: no objects in .yaml, .yml or .json files{}",
                path.display(),
                aside.notes.iter().map(|note| format!("; {note}")).collect::<String>()
            );
        } else {
            parse(
                &path.display().to_string(),
                &text_of(path)?,
                Strictness::All,
                &mut found,
            )?;
        }
    }
    anyhow::ensure!(!found.is_empty(), "no objects in what was given");
    aside.tell();
    Ok(found)
}

impl Aside {
    fn tell(&self) {
        for note in &self.notes {
            eprintln!("afloat: {note}");
        }
        if self.documents > 0 {
            let first: Vec<String> = self
                .files
                .iter()
                .take(3)
                .map(|path| path.display().to_string())
                .collect();
            let more = if self.files.len() > first.len() { ", …" } else { "" };
            let documents = if self.documents == 1 {
                "document is"
            } else {
                "documents are"
            };
            eprintln!(
                "afloat: {} {documents} no Kubernetes object, not looked at: {}{more}",
                self.documents,
                first.join(", ")
            );
        }
    }
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// A built object where its own file has it, if one of the same kind and name is in the folder; else where the tool printed it.
fn placed(object: Read, origins: &[Read]) -> Read {
    let id = |read: &Read| (read.value["kind"].clone(), read.value["metadata"]["name"].clone());
    match origins.iter().find(|origin| id(origin) == id(&object)) {
        Some(origin) => object.at(origin),
        None => object.rendered(),
    }
}

/// The objects of all files in a folder and below it, as they stand there. Of a file that cannot be read there is none.
fn raw(root: &Path) -> Vec<Read> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(folder) = open.pop() {
        for path in entries(&folder).unwrap_or_default() {
            if is_folder(&path) {
                open.push(path);
            } else if is_yaml(&path)
                && let Ok(text) = text_of(&path)
            {
                let mut objects = Vec::new();
                let read = parse(
                    &path.display().to_string(),
                    &text,
                    Strictness::Lenient(&mut 0),
                    &mut objects,
                );
                found.extend(objects.into_iter().filter(|_| read.is_ok()));
            }
        }
    }
    found
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|end| end == "yaml" || end == "yml" || end == "json")
}

/// `root`: what was named. `kustomizations`: the folders below it that are to be rendered, and those that are parts of others.
fn folder(
    root: &Path,
    path: &Path,
    kustomizations: &render::Kustomizations,
    found: &mut Vec<Read>,
    aside: &mut Aside,
) -> anyhow::Result<()> {
    if let Some(source) = kustomizations.source_of(path) {
        match render::render(path, source) {
            Rendered::Objects { text, by } => {
                let mut objects = Vec::new();
                let file = format!("{} ({by})", path.display());
                parse(&file, &text, Strictness::Lenient(&mut 0), &mut objects)?;
                let origins = if source == Source::Chart { Vec::new() } else { raw(root) };
                found.extend(objects.into_iter().map(|object| placed(object, &origins)));
            }
            Rendered::Not(why) => aside.notes.push(format!("{}: {why}", path.display())),
            Rendered::Raw(why) => {
                aside.notes.push(format!("{}: {why}", path.display()));
                found.extend(raw(path));
                return Ok(());
            }
            Rendered::Part => {}
        }
        // A chart's files are no objects, and what a kustomization names has been rendered.
        return match source {
            Source::Chart => Ok(()),
            Source::Kustomization | Source::Part => below(root, path, kustomizations, found, aside),
        };
    }
    for path in entries(path)? {
        if is_folder(&path) {
            folder(root, &path, kustomizations, found, aside)?;
        } else if path.is_file() && is_yaml(&path) {
            let text = text_of(&path)?;
            // A text that names no kind is none of ours to understand.
            if !text.contains("kind") || !text.contains("apiVersion") {
                aside.documents += 1;
                aside.files.insert(path);
                continue;
            }
            let mut skipped = 0;
            parse(
                &path.display().to_string(),
                &text,
                Strictness::Lenient(&mut skipped),
                found,
            )?;
            if skipped > 0 {
                aside.documents += skipped;
                aside.files.insert(path);
            }
        }
    }
    Ok(())
}

/// The folders of a kustomization that are not its own: others may lie below it.
fn below(
    root: &Path,
    path: &Path,
    kustomizations: &render::Kustomizations,
    found: &mut Vec<Read>,
    aside: &mut Aside,
) -> anyhow::Result<()> {
    for path in entries(path)? {
        if is_folder(&path) && kustomizations.is_in(&path) {
            folder(root, &path, kustomizations, found, aside)?;
        }
    }
    Ok(())
}

/// A link to a folder may lead in a circle.
fn is_folder(path: &Path) -> bool {
    path.is_dir() && !path.is_symlink()
}

fn entries(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}
