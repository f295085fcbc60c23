//! Container output to log files in the CRI format: `<RFC 3339 time> <stdout|stderr> <F|P> <text>`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;

use super::listeners::{Listeners, Output};

/// A longer line is written in parts, all but the last marked `P` (as the kubelet's other runtimes do).
const LINE_BYTES_MAX: usize = 16 * 1024;
/// A file is renamed to `.1` and so on when it is larger.
const FILE_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Old files that are kept.
const OLD_FILES: u32 = 4;
/// One read.
const READ_BYTES: usize = 4 * 1024;
/// So much is written at once where a container is quick.
const BATCH_BYTES: usize = 64 * 1024;

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

/// A log file that is being written.
struct Log {
    path: PathBuf,
    open: Option<(tokio::fs::File, u64)>,
}

impl Log {
    async fn append(&mut self, text: &[u8]) -> io::Result<()> {
        let (mut file, length) = match self.open.take() {
            Some(open) => open,
            None => {
                let mut options = tokio::fs::OpenOptions::new();
                let file = options.create(true).append(true).open(&self.path).await?;
                let length = file.metadata().await?.len();
                (file, length)
            }
        };
        file.write_all(text).await?;
        file.flush().await?;
        let length = length + text.len() as u64;
        if length >= FILE_BYTES_MAX {
            return rotate(&self.path).await;
        }
        self.open = Some((file, length));
        Ok(())
    }
}

/// One of the streams.
struct Source {
    pipe: pipe::Receiver,
    name: &'static str,
    output: Output,
    lines: Lines,
    open: bool,
}

impl Source {
    fn new(pipe: pipe::Receiver, name: &'static str, output: Output) -> Self {
        Self {
            pipe,
            name,
            output,
            lines: Lines::default(),
            open: true,
        }
    }

    /// Takes what is there, up to a bound; appends lines to `text` and gives what was read. Waits for the first of it.
    async fn take(&mut self, text: &mut Vec<u8>) -> Vec<u8> {
        let mut buffer = [0; READ_BYTES];
        let mut all = vec![];
        let mut read = self.pipe.read(&mut buffer).await;
        loop {
            let length = match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                read => read.unwrap_or(0),
            };
            let now = Timestamp::now().to_string();
            if length == 0 {
                self.open = false;
                self.lines.end(self.name, &now, text);
                break;
            }
            self.lines.take(&buffer[..length], self.name, &now, text);
            all.extend_from_slice(&buffer[..length]);
            if all.len() >= BATCH_BYTES {
                break;
            }
            read = self.pipe.try_read(&mut buffer);
        }
        all
    }
}

/// Copies both streams to the log, and to all who listen, until all who could write are gone.
pub(crate) async fn follow((out, err): (pipe::Receiver, pipe::Receiver), path: PathBuf, listeners: Arc<Listeners>) {
    let mut out = Source::new(out, "stdout", Output::Out);
    let mut err = Source::new(err, "stderr", Output::Err);
    let mut log = Log { path, open: None };
    while out.open || err.open {
        let mut text = Vec::new();
        let (output, bytes) = tokio::select! {
            readable = out.pipe.readable(), if out.open => {
                drop(readable);
                (out.output, out.take(&mut text).await)
            }
            readable = err.pipe.readable(), if err.open => {
                drop(readable);
                (err.output, err.take(&mut text).await)
            }
        };
        if !text.is_empty()
            && let Err(error) = log.append(&text).await
        {
            // The container must not stand still because a disk is full.
            tracing::warn!(path = %log.path.display(), %error, "container output is lost");
        }
        if !bytes.is_empty() {
            listeners.tell(output, &bytes).await;
        }
    }
    listeners.end();
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
