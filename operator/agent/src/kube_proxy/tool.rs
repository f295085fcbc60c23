//! Runs the node's own tools, with limits.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

/// Longest run of a tool, or reading of a file.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Most that is read of it: rules of about 200,000 endpoints, or half a million connections.
const BYTES_LIMIT: u64 = 128 << 20;
/// Most that is read of what a tool complains about.
const COMPLAINT_LIMIT: u64 = 4096;

/// Why there is no text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no such program or file.
    Missing,
    /// Whoever runs this may not do that.
    Denied(String),
    /// Anything else.
    Other(String),
}

/// Runs a program and hands on its output, line by line.
pub(super) async fn run_tool(program: &str, arguments: &[&str], each: impl FnMut(&str)) -> Result<(), Failure> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = child.map_err(|error| unreadable(&error))?;
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Failure::Other("its output cannot be read".to_owned()));
    };
    let all = async {
        let (read, complaint) = tokio::join!(lines(output, each), complaint(errors));
        read?;
        let status = child.wait().await.map_err(|error| unreadable(&error))?;
        if status.success() {
            return Ok(());
        }
        let said = if complaint.is_empty() {
            status.to_string()
        } else {
            complaint
        };
        let denied = ["Permission denied", "not permitted", "must be root"];
        Err(if denied.iter().any(|words| said.contains(words)) {
            Failure::Denied(said)
        } else {
            Failure::Other(said)
        })
    };
    limited(all).await
}

/// Hands on a file, line by line.
pub(super) async fn read(path: &str, each: impl FnMut(&str)) -> Result<(), Failure> {
    let all = async {
        let file = tokio::fs::File::open(path).await.map_err(|error| unreadable(&error))?;
        lines(file, each).await
    };
    limited(all).await
}

async fn limited(all: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let late = |_| Failure::Other(format!("it takes longer than {TIME_LIMIT:?}"));
    timeout(TIME_LIMIT, all).await.map_err(late)?
}

async fn lines(from: impl AsyncRead + Unpin, mut each: impl FnMut(&str)) -> Result<(), Failure> {
    let mut from = BufReader::with_capacity(64 << 10, from.take(BYTES_LIMIT));
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = from.read_until(b'\n', &mut line).await;
        if read.map_err(|error| unreadable(&error))? == 0 {
            break;
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        each(&String::from_utf8_lossy(text));
    }
    if from.get_ref().limit() == 0 {
        return Err(Failure::Other(format!("it is longer than {} MiB", BYTES_LIMIT >> 20)));
    }
    Ok(())
}

/// The first line of what a tool complains about.
async fn complaint(errors: impl AsyncRead + Unpin) -> String {
    let mut text = Vec::new();
    let mut errors = errors.take(COMPLAINT_LIMIT);
    // What cannot be read is no complaint; the exit code still counts.
    let _ = errors.read_to_end(&mut text).await;
    let _ = tokio::io::copy(&mut errors.into_inner(), &mut tokio::io::sink()).await;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

fn unreadable(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => Failure::Missing,
        io::ErrorKind::PermissionDenied => Failure::Denied(error.to_string()),
        _ => Failure::Other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn sh(script: &str) -> Result<Vec<String>, Failure> {
        let mut all = Vec::new();
        run_tool("sh", &["-c", script], |line| all.push(line.to_owned())).await?;
        Ok(all)
    }

    #[tokio::test]
    async fn lines_and_complaints() {
        assert_eq!(
            sh("echo a; echo b >&2; printf c").await,
            Ok(vec!["a".into(), "c".into()])
        );
        assert_eq!(
            sh("echo '# Warning' >&2; echo 'no table' >&2; exit 1").await,
            Err(Failure::Other("no table".into()))
        );
        let denied = "iptables-save: Permission denied (you must be root)";
        assert_eq!(
            sh(&format!("echo '{denied}' >&2; exit 4")).await,
            Err(Failure::Denied(denied.into()))
        );
        assert_eq!(
            run_tool("afloat-no-such-program", &[], |_| {}).await,
            Err(Failure::Missing)
        );
        assert_eq!(read("/proc/no-such-file", |_| {}).await, Err(Failure::Missing));
    }

    #[tokio::test]
    async fn too_much_is_not_everything() {
        let mut bytes = 0;
        let outcome = run_tool("sh", &["-c", "yes 0123456789"], |line| bytes += line.len()).await;
        assert_eq!(outcome, Err(Failure::Other("it is longer than 128 MiB".into())));
        assert!(bytes > 100 << 20);
    }
}
