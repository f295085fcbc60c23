//! `afloat oci stdio`: keeps a container's standard input open, and its terminal, for as long as the container lives.
//!
//! A process of its own, one for each container with `stdin` or `tty`, as a restart of the inner process must neither close an
//! input nor hang up a terminal. It reads frames (input, terminal sizes, the end of the input) from a named pipe that anybody
//! may write to, and copies what the terminal says to the pipe of the container's output.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::broker::receive_message;

/// How long the OCI runtime may take to send the terminal.
const TERMINAL_LIMIT_MS: u16 = 60_000;
/// One read.
const CHUNK: usize = 4096;
/// Head of a frame: kind, length in two bytes.
pub(crate) const HEAD: usize = 3;
/// So long may a frame be that it is written in one piece (PIPE_BUF, pipe(7)).
pub(crate) const FRAME_MAX: usize = 4096;

/// What is said to a container's first process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Input.
    Bytes(Vec<u8>),
    /// There is no more input, from nobody.
    Close,
    /// Columns and rows of the terminal.
    Size(u16, u16),
}

impl Frame {
    /// What goes into the pipe; input beyond [`FRAME_MAX`] is cut off.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let sizes;
        let (kind, payload): (u8, &[u8]) = match self {
            Self::Bytes(bytes) => (0, bytes.get(..FRAME_MAX - HEAD).unwrap_or(bytes)),
            Self::Close => (1, &[]),
            Self::Size(columns, rows) => {
                let ([a, b], [c, d]) = (columns.to_be_bytes(), rows.to_be_bytes());
                sizes = [a, b, c, d];
                (2, &sizes)
            }
        };
        let [high, low] = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
        let mut frame = vec![kind, high, low];
        frame.extend_from_slice(payload);
        frame
    }

    /// The next frame of what was read. None: more has to be read.
    fn take(read: &mut VecDeque<u8>) -> Option<Self> {
        let head: Vec<u8> = read.iter().take(HEAD).copied().collect();
        let &[kind, high, low] = head.as_slice() else {
            return None;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if read.len() < HEAD + length {
            return None;
        }
        let payload: Vec<u8> = read.drain(..HEAD + length).skip(HEAD).collect();
        Some(match (kind, payload.as_slice()) {
            (0, _) => Self::Bytes(payload),
            (2, &[a, b, c, d]) => Self::Size(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])),
            _ => Self::Close,
        })
    }
}

/// Runs until nobody can read the input any more. Standard input: with `output` the socket that the OCI runtime sends the
/// terminal to. Standard output: without it the pipe that the container reads.
pub(super) fn relay(input: &Path, output: Option<&Path>) -> io::Result<()> {
    // For writing, too: it must not end when a writer goes.
    let frames = open(input)?;
    match output {
        Some(output) => {
            let out = open(output)?;
            let terminal = File::from(receive_terminal()?);
            Relay::new(frames, terminal, Some(out)).relay_until_the_end()
        }
        None => {
            let pipe = File::from(io::stdout().as_fd().try_clone_to_owned()?);
            // The own standard output must not keep it open.
            rustix::stdio::dup2_stdout(&frames)?;
            rustix::io::ioctl_fionbio(&pipe, true)?;
            Relay::new(frames, pipe, None).relay_until_the_end()
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)
}

fn receive_terminal() -> io::Result<OwnedFd> {
    let listener = std::os::unix::net::UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(false)?;
    wait_readable(listener.as_fd())?;
    let (stream, _) = listener.accept()?;
    wait_readable(stream.as_fd())?;
    let (_, terminal) = receive_message(stream.as_raw_fd())?;
    let terminal = terminal.ok_or_else(|| io::Error::other("the runtime sent no terminal"))?;
    rustix::io::ioctl_fionbio(&terminal, true)?;
    Ok(terminal)
}

fn wait_readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(TERMINAL_LIMIT_MS))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

struct Relay {
    frames: File,
    /// The container's end of it: a terminal, or the pipe of its input.
    container: File,
    /// Where the terminal's output goes; None: it is not a terminal.
    output: Option<File>,
    /// Frames that are not complete.
    read: VecDeque<u8>,
    /// Input that the container has not taken.
    input: VecDeque<u8>,
    /// Output that the log has not taken.
    said: VecDeque<u8>,
    closing: bool,
    hung_up: bool,
}

impl Relay {
    fn new(frames: File, container: File, output: Option<File>) -> Self {
        Self {
            frames,
            container,
            output,
            read: VecDeque::new(),
            input: VecDeque::new(),
            said: VecDeque::new(),
            closing: false,
            hung_up: false,
        }
    }

    fn relay_until_the_end(mut self) -> io::Result<()> {
        loop {
            self.frames()?;
            // Closing a terminal would end its programs.
            if self.closing && self.input.is_empty() && self.output.is_none() {
                return Ok(());
            }
            if self.hung_up && (self.output.is_none() || self.said.is_empty()) {
                return Ok(());
            }
            self.wait()?;
            if let Some(output) = &mut self.output {
                push(&mut self.said, output)?;
                if self.said.is_empty() && !self.hung_up {
                    self.hung_up = !pull(&mut self.container, &mut self.said)?;
                }
            }
            if push(&mut self.input, &mut self.container).is_err() {
                // The end of a pipe's reader; of a terminal the output tells.
                self.input.clear();
                self.hung_up |= self.output.is_none();
            }
        }
    }

    /// Takes frames until there is input to be given.
    fn frames(&mut self) -> io::Result<()> {
        while self.input.is_empty() {
            match Frame::take(&mut self.read) {
                Some(Frame::Bytes(bytes)) if !self.closing => self.input.extend(bytes),
                Some(Frame::Bytes(_)) => {}
                Some(Frame::Close) => self.closing = true,
                Some(Frame::Size(ws_col, ws_row)) => {
                    let size = rustix::termios::Winsize {
                        ws_row,
                        ws_col,
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    let _ = rustix::termios::tcsetwinsize(&self.container, size);
                }
                None => {
                    let before = self.read.len();
                    pull(&mut self.frames, &mut self.read)?;
                    if self.read.len() == before {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let when = |condition: bool, flag: PollFlags| if condition { flag } else { PollFlags::empty() };
        let container = when(!self.input.is_empty(), PollFlags::POLLOUT)
            | when(self.output.is_some() && self.said.is_empty(), PollFlags::POLLIN);
        let mut fds = vec![PollFd::new(
            self.frames.as_fd(),
            when(self.input.is_empty(), PollFlags::POLLIN),
        )];
        if !self.hung_up {
            fds.push(PollFd::new(self.container.as_fd(), container));
        }
        if let Some(output) = self.output.as_ref().filter(|_| !self.said.is_empty()) {
            fds.push(PollFd::new(output.as_fd(), PollFlags::POLLOUT));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => {
                let gone = fds.get(1).and_then(PollFd::revents);
                if self.output.is_none() && gone.is_some_and(|events| events.contains(PollFlags::POLLERR)) {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Ok(())
            }
        }
    }
}

/// Writes what can be written now.
fn push(from: &mut VecDeque<u8>, to: &mut File) -> io::Result<()> {
    while !from.is_empty() {
        let (first, _) = from.as_slices();
        match to.write(first) {
            Ok(written) => drop(from.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads what is there now, a chunk of it. False: the other end is closed.
fn pull(from: &mut File, to: &mut VecDeque<u8>) -> io::Result<bool> {
    let mut chunk = [0; CHUNK];
    match from.read(&mut chunk) {
        Ok(0) => Ok(false),
        Ok(length) => {
            to.extend(&chunk[..length]);
            Ok(true)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(true),
        // What a terminal says when the last process has closed its end.
        Err(error) if error.raw_os_error() == Some(nix::libc::EIO) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let frames = [
            Frame::Size(80, 24),
            Frame::Bytes(b"ls\n".to_vec()),
            Frame::Bytes(vec![]),
            Frame::Close,
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        let (mut read, mut out) = (VecDeque::new(), vec![]);
        for byte in bytes {
            read.push_back(byte);
            out.extend(Frame::take(&mut read));
        }
        assert_eq!(out, frames);
        assert_eq!(Frame::Bytes(vec![0; 10_000]).bytes().len(), FRAME_MAX);
    }

    /// A pipe, both ends as files.
    fn pipe() -> (File, File) {
        let (from, to) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).unwrap();
        (from.into(), to.into())
    }

    #[test]
    fn input_reaches_the_container_until_it_is_closed() {
        let ((frames, mut writer), (mut container, end)) = (pipe(), pipe());
        for frame in [
            Frame::Bytes(b"one ".to_vec()),
            Frame::Bytes(b"two".to_vec()),
            Frame::Close,
        ] {
            writer.write_all(&frame.bytes()).unwrap();
        }
        Relay::new(frames, end, None).relay_until_the_end().unwrap();
        let mut all = String::new();
        container.read_to_string(&mut all).unwrap();
        assert_eq!(all, "one two");
    }

    #[test]
    fn it_ends_with_the_container() {
        let ((frames, _writer), (container, end)) = (pipe(), pipe());
        drop(container);
        let ended = Relay::new(frames, end, None).relay_until_the_end();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
