//! Which shared libraries a program needs, so that an image of one file can run.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::ImageError;

/// PT_INTERP, elf(5).
const INTERPRETER: u32 = 3;
/// Where systems have the loader of programs. A program may name any other file, and whoever packs it would run that.
const LOADERS: [&str; 8] = [
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/usr/lib",
    "/usr/lib64",
    "/nix/store",
    "/gnu/store",
];
/// More program headers than any program has.
const HEADERS_MAX: u16 = 1024;
/// A path is shorter.
const PATH_BYTES_MAX: u64 = 4096;

/// The libraries and the loader of a program, each with the absolute path where it is looked for. Empty: it is static, or
/// not a program.
///
/// # Errors
/// The file cannot be read, or a library is missing on this machine.
pub(super) fn libraries(file: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let Some(loader) = interpreter(file).map_err(ImageError::io(file))? else {
        return Ok(Vec::new());
    };
    // It is going to be run.
    if !LOADERS.iter().any(|dir| loader.starts_with(dir)) || loader.components().any(|c| c == Component::ParentDir) {
        let reason = format!(
            "names {} as its loader, which is not where this system has those",
            loader.display()
        );
        return Err(ImageError::bad(file, reason));
    }
    let absolute = fs::canonicalize(file).map_err(ImageError::io(file))?;
    let output = Command::new(&loader)
        .arg("--list")
        .arg(absolute)
        .env_remove("LD_PRELOAD")
        .output()
        .map_err(ImageError::io(&loader))?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(ImageError::bad(
            file,
            format!("its libraries cannot be listed: {}", said.trim()),
        ));
    }
    let mut found = parse_list(&text)
        .map_err(|name| ImageError::bad(file, format!("it needs {name}, which this machine does not have")))?;
    found.push(loader);
    found.sort();
    found.dedup();
    Ok(found)
}

/// Lines as `name => /path (0x…)`, `/path (0x…)` or `name => not found`.
fn parse_list(text: &str) -> Result<Vec<PathBuf>, String> {
    let mut paths = Vec::new();
    for line in text.lines() {
        let (name, target) = line.split_once("=>").unwrap_or((line, line));
        let target = target.trim();
        if target.starts_with("not found") {
            return Err(name.trim().to_owned());
        }
        if let Some(path) = target.split(" (").next().filter(|path| path.starts_with('/')) {
            paths.push(PathBuf::from(path));
        }
    }
    Ok(paths)
}

/// The loader that a dynamic 64-bit little-endian ELF program names.
fn interpreter(file: &Path) -> io::Result<Option<PathBuf>> {
    let mut file = fs::File::open(file)?;
    let mut header = [0_u8; 64];
    if file.read_exact(&mut header).is_err() || header[..6] != [0x7f, b'E', b'L', b'F', 2, 1] {
        return Ok(None);
    }
    let table = u64_at(&header, 32);
    let (size, count) = (u16_at(&header, 54), u16_at(&header, 56).min(HEADERS_MAX));
    for index in 0..count {
        let mut entry = [0_u8; 56];
        file.seek(SeekFrom::Start(
            table.saturating_add(u64::from(index) * u64::from(size)),
        ))?;
        file.read_exact(&mut entry)?;
        if u32_at(&entry, 0) == INTERPRETER {
            let (offset, length) = (u64_at(&entry, 8), u64_at(&entry, 32).min(PATH_BYTES_MAX));
            file.seek(SeekFrom::Start(offset))?;
            let mut path = Vec::new();
            file.take(length).read_to_end(&mut path)?;
            let path = String::from_utf8_lossy(&path).trim_end_matches('\0').to_owned();
            return Ok(Some(PathBuf::from(path)));
        }
    }
    Ok(None)
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..at + N)
        .and_then(|slice| slice.try_into().ok())
        .unwrap_or([0; N])
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_loaders_list() {
        let text = "\tlinux-vdso.so.1 (0x7ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x7f1)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f2)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse_list(text), Ok(expected.to_vec()));
        assert_eq!(parse_list("\tlibx.so => not found\n"), Err("libx.so".to_owned()));
    }

    #[test]
    fn a_text_file_needs_nothing() {
        assert_eq!(interpreter(Path::new("/proc/self/status")).ok(), Some(None));
    }
}
