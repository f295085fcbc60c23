//! Container output to log files in the CRI format: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

/// A longer line is written in parts, all but the last marked `P` (as the kubelet's other runtimes do).
const LINE_BYTES_MAX: usize = 16 * 1024;
/// A file is renamed to `.1` and so on when it is larger.
const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Old files that are kept.
const OLD_FILES: u32 = 4;
/// One read; two of these for each container.
const READ_BYTES: usize = 4 * 1024;

/// Cuts a stream into lines. Pure.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Takes what was read and appends finished lines to `out`.
    fn take(&mut self, bytes: &[u8], stream: &str, now: &str, out: &mut Vec<u8>) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = LINE_BYTES_MAX - self.partial.len();
            let end = rest.iter().take(room).position(|b| *b == b'\n');
            let (part, next) = rest.split_at(end.unwrap_or(rest.len().min(room)));
            self.partial.extend_from_slice(part);
            if end.is_some() {
                self.write(stream, now, 'F', out);
                rest = &next[1..];
            } else {
                rest = next;
                if self.partial.len() == LINE_BYTES_MAX {
                    self.write(stream, now, 'P', out);
                }
            }
        }
    }

    /// What is left without an end of line.
    fn end(&mut self, stream: &str, now: &str, out: &mut Vec<u8>) {
        if !self.partial.is_empty() {
            self.write(stream, now, 'F', out);
        }
        self.partial = Vec::new();
    }

    fn write(&mut self, stream: &str, now: &str, tag: char, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{now} {stream} {tag} ").as_bytes());
        out.append(&mut self.partial);
        out.push(b'\n');
    }
}

/// The two pipes of a container. Its first process holds each open for reading, too, so that nobody dies of SIGPIPE while
/// the inner process is being started again.
#[derive(Clone, Debug)]
pub(super) struct Pipes {
    out: PathBuf,
    err: PathBuf,
}

impl Pipes {
    pub(super) fn new(dir: &Path, id: &str) -> Self {
        Self {
            out: dir.join(format!("{id}.out")),
            err: dir.join(format!("{id}.err")),
        }
    }

    /// Makes them and opens each for the container.
    pub(super) fn make(&self) -> io::Result<(fs::File, fs::File)> {
        for path in [&self.out, &self.err] {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o666))?;
            // Programs open /dev/stdout anew, and not all run as root.
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        }
        let open = |path: &Path| fs::OpenOptions::new().read(true).write(true).open(path);
        Ok((open(&self.out)?, open(&self.err)?))
    }

    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.out);
        let _ = fs::remove_file(&self.err);
    }

    /// Opens them for [`follow`]; on a tokio runtime.
    pub(super) fn readers(&self) -> io::Result<(pipe::Receiver, pipe::Receiver)> {
        let options = pipe::OpenOptions::new();
        Ok((options.open_receiver(&self.out)?, options.open_receiver(&self.err)?))
    }
}

/// Copies both streams to the log until all who could write are gone.
pub(super) async fn follow((mut out, mut err): (pipe::Receiver, pipe::Receiver), path: PathBuf) {
    let mut lines = (Lines::default(), Lines::default());
    let mut open = (true, true);
    let mut buffers = (vec![0; READ_BYTES], vec![0; READ_BYTES]);
    while open.0 || open.1 {
        let mut text = Vec::new();
        tokio::select! {
            read = out.read(&mut buffers.0), if open.0 => {
                let length = read.unwrap_or(0);
                let now = Timestamp::now().to_string();
                lines.0.take(&buffers.0[..length], "stdout", &now, &mut text);
                if length == 0 { open.0 = false; lines.0.end("stdout", &now, &mut text); }
            }
            read = err.read(&mut buffers.1), if open.1 => {
                let length = read.unwrap_or(0);
                let now = Timestamp::now().to_string();
                lines.1.take(&buffers.1[..length], "stderr", &now, &mut text);
                if length == 0 { open.1 = false; lines.1.end("stderr", &now, &mut text); }
            }
        }
        if !text.is_empty()
            && let Err(error) = append(&path, &text).await
        {
            // The container must not stand still because a disk is full.
            tracing::warn!(path = %path.display(), %error, "container output is lost");
        }
    }
}

async fn append(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = tokio::fs::OpenOptions::new();
    let mut file = options.create(true).append(true).open(path).await?;
    file.write_all(text).await?;
    file.flush().await?;
    if file.metadata().await?.len() >= FILE_BYTES_MAX {
        drop(file);
        rotate(path).await?;
    }
    Ok(())
}

async fn rotate(path: &Path) -> io::Result<()> {
    let old = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..OLD_FILES).rev() {
        let _ = tokio::fs::rename(old(number), old(number + 1)).await;
    }
    tokio::fs::rename(path, old(1)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_and_marked() {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        lines.take(b"one\ntw", "stdout", "T", &mut out);
        lines.take(b"o\n\n", "stdout", "T", &mut out);
        lines.take(b"end", "stdout", "T", &mut out);
        lines.end("stdout", "T", &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "T stdout F one\nT stdout F two\nT stdout F \nT stdout F end\n"
        );
    }

    #[test]
    fn a_long_line_comes_in_parts() {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        let mut long = vec![b'x'; LINE_BYTES_MAX + 1];
        long.push(b'\n');
        lines.take(&long, "stderr", "T", &mut out);
        let text = String::from_utf8_lossy(&out).into_owned();
        let tags: Vec<&str> = text.lines().filter_map(|l| l.split(' ').nth(2)).collect();
        assert_eq!(tags, ["P", "F"]);
        assert_eq!(text.lines().last(), Some("T stderr F x"));
    }
}
