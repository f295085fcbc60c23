//! Container logs: files in the CRI format (`TIME STREAM TAG TEXT`, tag `P` for a part of a line, `F` for its end),
//! read with the options of `kubectl logs`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, BufReader, SeekFrom};
use tokio::sync::mpsc;

/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(100);
/// Files that a rotation leaves.
const OLD_FILES: u32 = 4;
/// One read, and one piece for the client.
const READ_BYTES: usize = 32 * 1024;

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
    let tail = options.tail;
    let mut sending = Sending {
        formatter: Formatter {
            options,
            inside_line: false,
        },
        out,
        left: 0,
        batch: vec![],
    };
    sending.left = sending.formatter.options.limit.unwrap_or(usize::MAX);
    let mut file = File::open(path).await?;
    let mut seen = identity(&file).await?;
    if let Some(count) = tail {
        let start = start_of_tail(&mut file, count).await?;
        file.seek(SeekFrom::Start(start)).await?;
    }
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    let mut line = Vec::new();
    // What is there now and not what is written meanwhile: who does not follow wants an end.
    let mut until = (!follow).then_some(seen.length);
    loop {
        let over = follow && ended().await;
        if !sending.all(&mut reader, &mut line, until).await? {
            return Ok(());
        }
        // An old file is not written any more: what it has to say was said before it got its new name.
        if follow && let Some((file, identity)) = newer(path, seen.number).await? {
            if !sending.all(&mut reader, &mut line, until).await? {
                return Ok(());
            }
            seen = identity;
            reader = BufReader::with_capacity(READ_BYTES, file);
            line.clear();
            until = None;
            continue;
        }
        if !follow || over || out.is_closed() {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The end of what a container has said: lines and bytes, at most.
pub(crate) async fn last(path: &Path, lines: usize, bytes: usize) -> io::Result<String> {
    let mut file = File::open(path).await?;
    let start = start_of_tail(&mut file, lines).await?;
    file.seek(SeekFrom::Start(start)).await?;
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    let mut formatter = Formatter {
        options: LogOptions::default(),
        inside_line: false,
    };
    let (mut line, mut text) = (vec![], String::new());
    while let Some(raw) = next(&mut reader, &mut line).await? {
        text.push_str(&formatter.format(&raw).unwrap_or_default());
        let over = text.len().saturating_sub(bytes);
        text.drain(..text.ceil_char_boundary(over));
    }
    Ok(text)
}

/// The file that was begun after the one with that number: the next of those that a rotation has left (`.1` is the newest of
/// them), or the oldest of them if that one is gone. None: it is the newest.
async fn newer(path: &Path, number: u64) -> io::Result<Option<(File, Identity)>> {
    let mut newer = None;
    for age in 0..=OLD_FILES {
        let mut name = path.as_os_str().to_owned();
        if age > 0 {
            name.push(format!(".{age}"));
        }
        match File::open(PathBuf::from(name)).await {
            Ok(file) => {
                let identity = identity(&file).await?;
                if identity.number == number {
                    return Ok(newer);
                }
                newer = Some((file, identity));
            }
            // In the middle of a rotation: the next look will see it.
            Err(_) if age == 0 => return Ok(None),
            Err(_) => break,
        }
    }
    Ok(newer)
}

/// What tells a file from another of the same name.
struct Identity {
    number: u64,
    length: u64,
}

async fn identity(file: &File) -> io::Result<Identity> {
    let metadata = file.metadata().await?;
    Ok(Identity {
        number: std::os::unix::fs::MetadataExt::ino(&metadata),
        length: metadata.len(),
    })
}

/// Where the last `count` lines begin. Lines are counted as the kubelet does: entries of the file.
async fn start_of_tail(file: &mut File, count: usize) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0)).await?;
    let (mut at, mut found) = (end, 0);
    let mut block = vec![0; READ_BYTES];
    while at > 0 {
        let length = usize::try_from(at).unwrap_or(READ_BYTES).min(READ_BYTES);
        let from = at - length as u64;
        file.seek(SeekFrom::Start(from)).await?;
        file.read_exact(&mut block[..length]).await?;
        for (i, _) in block[..length]
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, byte)| **byte == b'\n')
        {
            let after = from + i as u64 + 1;
            // The end of the last line begins none; what comes after it is not whole yet.
            if found == count {
                return Ok(after);
            }
            found += 1;
        }
        at = from;
    }
    Ok(0)
}

/// The way to the client.
struct Sending<'a> {
    formatter: Formatter,
    out: &'a mpsc::Sender<Result<Bytes, io::Error>>,
    left: usize,
    batch: Vec<u8>,
}

impl Sending<'_> {
    /// Sends what can be read now, up to an offset. False: enough was sent, or nobody listens.
    async fn all(&mut self, reader: &mut BufReader<File>, line: &mut Vec<u8>, until: Option<u64>) -> io::Result<bool> {
        let mut at = match until {
            Some(_) => reader.stream_position().await?,
            None => 0,
        };
        while until.is_none_or(|until| at < until) {
            let Some(text) = next(reader, line).await? else { break };
            at += text.len() as u64;
            if let Some(text) = self.formatter.format(&text) {
                self.batch.extend_from_slice(text.as_bytes());
            }
            if self.batch.len() >= READ_BYTES && !self.give().await {
                return Ok(false);
            }
        }
        Ok(self.give().await)
    }

    async fn give(&mut self) -> bool {
        if self.batch.is_empty() {
            return self.left > 0;
        }
        let mut bytes = Bytes::from(std::mem::take(&mut self.batch));
        bytes.truncate(self.left);
        self.left -= bytes.len();
        self.out.send(Ok(bytes)).await.is_ok() && self.left > 0
    }
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
    async fn the_last_lines_are_read_up_to_a_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        for (lines, bytes, expected) in [
            (80, 100, "one\ntwo\nthree\n"),
            (1, 100, "three\n"),
            (80, 8, "o\nthree\n"),
            (80, 0, ""),
        ] {
            assert_eq!(last(&path, lines, bytes).await.unwrap(), expected, "{lines} {bytes}");
        }
        assert!(last(&dir.path().join("none"), 1, 1).await.is_err());
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

    /// What was read so far, once it has as many lines.
    async fn lines(receiver: &mut mpsc::Receiver<Result<Bytes, io::Error>>, all: &mut String, count: usize) {
        while all.lines().count() < count {
            let bytes = receiver.recv().await.unwrap().unwrap();
            all.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    #[tokio::test]
    async fn following_goes_on_over_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let entry = |text: &str| format!("2026-01-01T00:00:00Z stdout F {text}\n");
        std::fs::write(&path, entry("one")).unwrap();
        let (over, (sender, mut receiver)) = (
            std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)),
            mpsc::channel(16),
        );
        let ended = over.clone();
        let options = LogOptions {
            follow: true,
            ..LogOptions::default()
        };
        let task = tokio::spawn(send(
            path.clone(),
            options,
            async move || ended.load(std::sync::atomic::Ordering::SeqCst),
            sender,
        ));
        let mut all = String::new();
        lines(&mut receiver, &mut all, 1).await;
        // The last of the old file, then a new one that is longer than the old.
        let mut old = std::fs::read_to_string(&path).unwrap();
        old.push_str(&entry("two"));
        std::fs::write(&path, &old).unwrap();
        std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
        let new: String = (3..40).map(|n| entry(&n.to_string())).collect();
        std::fs::write(&path, new).unwrap();
        lines(&mut receiver, &mut all, 39).await;
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(receiver.recv().await.is_none());
        task.await.unwrap();
        assert!(all.starts_with("one\ntwo\n3\n") && all.ends_with("39\n"), "{all}");
    }

    #[tokio::test]
    async fn the_tail_is_found_without_reading_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let long = "x".repeat(10_000);
        let text: String = (0..100).map(|n| format!("T stdout F {n} {long}\n")).collect();
        std::fs::write(&path, &text).unwrap();
        let mut file = File::open(&path).await.unwrap();
        for (count, first) in [(1, 99), (5, 95), (100, 0), (1000, 0)] {
            let at = usize::try_from(start_of_tail(&mut file, count).await.unwrap()).unwrap();
            assert!(text[at..].starts_with(&format!("T stdout F {first} ")), "{count}");
        }
        assert_eq!(start_of_tail(&mut file, 0).await.unwrap(), text.len() as u64);
    }
}
