//! Container logs: files in the CRI format (`TIME STREAM TAG TEXT`, tag `P` for a part of a line, `F` for its end),
//! read with the options of `kubectl logs`.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncSeekExt, BufReader, SeekFrom};
use tokio::sync::mpsc;

/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) previous: bool,
    pub(crate) timestamps: bool,
    pub(crate) tail: Option<usize>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) limit: Option<usize>,
}

/// The file of the newest container of a name, or of the one before. None: there is none.
pub(crate) async fn find(dir: &Path, previous: bool) -> Option<PathBuf> {
    let mut attempts: Vec<u32> = vec![];
    let mut entries = tokio::fs::read_dir(dir).await.ok()?;
    while let Ok(Some(entry)) = entries.next_entry().await {
        let name = entry.file_name();
        attempts.extend(
            name.to_str()
                .and_then(|name| name.strip_suffix(".log"))
                .and_then(|n| n.parse::<u32>().ok()),
        );
    }
    attempts.sort_unstable();
    let attempt = attempts.iter().rev().nth(usize::from(previous))?;
    Some(dir.join(format!("{attempt}.log")))
}

/// One entry of the file.
struct Line<'a> {
    time: &'a str,
    whole: bool,
    text: &'a str,
}

fn parse(line: &str) -> Option<Line<'_>> {
    let (time, rest) = line.split_once(' ')?;
    let (_stream, rest) = rest.split_once(' ')?;
    let (tag, text) = rest.split_once(' ').unwrap_or((rest, ""));
    Some(Line {
        time,
        whole: tag.starts_with('F'),
        text,
    })
}

/// Turns entries into what the client is sent.
struct Formatter {
    options: LogOptions,
    inside_line: bool,
}

impl Formatter {
    fn format(&mut self, raw: &str) -> Option<String> {
        let line = parse(raw.trim_end_matches('\n'))?;
        if let Some(since) = self.options.since
            && line.time.parse::<Timestamp>().is_ok_and(|time| time < since)
        {
            return None;
        }
        let mut text = String::with_capacity(raw.len());
        if self.options.timestamps && !self.inside_line {
            text.push_str(line.time);
            text.push(' ');
        }
        text.push_str(line.text);
        if line.whole {
            text.push('\n');
        }
        self.inside_line = !line.whole;
        Some(text)
    }
}

/// Sends the log until its end, or (following) until `ended` says that the container has and all was read.
pub(crate) async fn send(
    path: PathBuf,
    options: LogOptions,
    ended: impl AsyncFn() -> bool,
    out: mpsc::Sender<Result<Bytes, io::Error>>,
) {
    if let Err(error) = copy(&path, options, ended, &out).await {
        // The client may be gone: then there is nobody to tell.
        let _ = out.send(Err(error)).await;
    }
}

async fn copy(
    path: &Path,
    options: LogOptions,
    ended: impl AsyncFn() -> bool,
    out: &mpsc::Sender<Result<Bytes, io::Error>>,
) -> io::Result<()> {
    let follow = options.follow;
    let mut left = options.limit.unwrap_or(usize::MAX);
    let tail = options.tail;
    let mut formatter = Formatter {
        options,
        inside_line: false,
    };
    let mut reader = BufReader::new(File::open(path).await?);
    let mut kept: VecDeque<String> = VecDeque::new();
    let mut line = Vec::new();
    // First what is there; the last lines of it where only those are wanted.
    while let Some(text) = next(&mut reader, &mut line).await? {
        let Some(text) = formatter.format(&text) else { continue };
        match tail {
            Some(count) => {
                kept.push_back(text);
                if kept.len() > count {
                    kept.pop_front();
                }
            }
            None => {
                if !give(out, text, &mut left).await {
                    return Ok(());
                }
            }
        }
    }
    for text in kept {
        if !give(out, text, &mut left).await {
            return Ok(());
        }
    }
    while follow && !out.is_closed() {
        let over = ended().await;
        while let Some(text) = next(&mut reader, &mut line).await? {
            let Some(text) = formatter.format(&text) else { continue };
            if !give(out, text, &mut left).await {
                return Ok(());
            }
        }
        if over {
            break;
        }
        reopen_if_rotated(path, &mut reader, &mut line).await?;
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// The next whole line; what is not yet ended stays in `line`.
async fn next(reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<Option<String>> {
    reader.read_until(b'\n', line).await?;
    if line.last() != Some(&b'\n') {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(line).into_owned();
    line.clear();
    Ok(Some(text))
}

/// A file that became shorter than what was read of it was begun anew.
async fn reopen_if_rotated(path: &Path, reader: &mut BufReader<File>, line: &mut Vec<u8>) -> io::Result<()> {
    let at = reader.stream_position().await?;
    if tokio::fs::metadata(path)
        .await
        .is_ok_and(|metadata| metadata.len() < at)
    {
        let mut file = File::open(path).await?;
        file.seek(SeekFrom::Start(0)).await?;
        *reader = BufReader::new(file);
        line.clear();
    }
    Ok(())
}

/// False: enough was sent, or nobody listens.
async fn give(out: &mpsc::Sender<Result<Bytes, io::Error>>, text: String, left: &mut usize) -> bool {
    let mut bytes = Bytes::from(text);
    bytes.truncate(*left);
    *left -= bytes.len();
    out.send(Ok(bytes)).await.is_ok() && *left > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01T00:00:00.000000000Z stdout F one\n2026-01-01T00:00:01.5Z stderr P tw\n\
                       2026-01-01T00:00:01.6Z stderr F o\n2026-01-01T00:00:02Z stdout F three\n";

    async fn read(options: LogOptions) -> String {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("0.log"), "").unwrap();
        std::fs::write(dir.path().join("1.log"), LOG).unwrap();
        let path = find(dir.path(), options.previous).await.unwrap();
        let (sender, mut receiver) = mpsc::channel(16);
        send(path, options, async || true, sender).await;
        let mut all = String::new();
        while let Some(bytes) = receiver.recv().await {
            all.push_str(std::str::from_utf8(&bytes.unwrap()).unwrap());
        }
        all
    }

    #[tokio::test]
    async fn reads_as_kubectl_asks() {
        let default = LogOptions::default;
        assert_eq!(read(default()).await, "one\ntwo\nthree\n");
        assert_eq!(
            read(LogOptions {
                tail: Some(1),
                ..default()
            })
            .await,
            "three\n"
        );
        assert_eq!(
            read(LogOptions {
                limit: Some(5),
                ..default()
            })
            .await,
            "one\nt"
        );
        assert_eq!(
            read(LogOptions {
                follow: true,
                tail: Some(0),
                ..default()
            })
            .await,
            ""
        );
        let since = "2026-01-01T00:00:02Z".parse().ok();
        assert_eq!(
            read(LogOptions {
                since,
                timestamps: true,
                ..default()
            })
            .await,
            "2026-01-01T00:00:02Z three\n"
        );
        assert_eq!(
            read(LogOptions {
                previous: true,
                ..default()
            })
            .await,
            ""
        );
    }
}
