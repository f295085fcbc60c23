//! Where a container's output comes out, and where its input and terminal go in.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tokio::net::unix::pipe;

/// The two pipes of a container. Its first process holds each open for reading, too, so that nobody dies of SIGPIPE while
/// the inner process is being started again.
#[derive(Clone, Debug)]
pub(crate) struct Pipes {
    out: PathBuf,
    err: PathBuf,
    input: PathBuf,
    console: PathBuf,
}

impl Pipes {
    pub(crate) fn new(dir: &Path, id: &str) -> Self {
        Self {
            out: dir.join(format!("{id}.out")),
            err: dir.join(format!("{id}.err")),
            input: dir.join(format!("{id}.in")),
            // The path of a socket must be short.
            console: dir.join(format!("{}.tty", id.get(..24).unwrap_or(id))),
        }
    }

    /// Makes them and opens each for the container.
    pub(crate) fn make(&self) -> io::Result<(fs::File, fs::File)> {
        for path in [&self.out, &self.err] {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::from_bits_truncate(0o666))?;
            // Programs open /dev/stdout anew, and not all run as root.
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))?;
        }
        let open = |path: &Path| fs::OpenOptions::new().read(true).write(true).open(path);
        Ok((open(&self.out)?, open(&self.err)?))
    }

    /// Takes all of them away, the relay's included.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.out);
        let _ = fs::remove_file(&self.err);
        let _ = fs::remove_file(&self.input);
        let _ = fs::remove_file(&self.console);
    }

    /// Where the relay of a container reads frames.
    pub(crate) fn input(&self) -> &Path {
        &self.input
    }

    pub(crate) fn make_input(&self) -> io::Result<()> {
        Ok(nix::unistd::mkfifo(
            &self.input,
            nix::sys::stat::Mode::from_bits_truncate(0o600),
        )?)
    }

    /// Where standard output goes.
    pub(crate) fn output(&self) -> &Path {
        &self.out
    }

    /// The socket that the OCI runtime sends a terminal to.
    pub(crate) fn console(&self) -> &Path {
        &self.console
    }

    /// Opens them for [`super::log::follow`]; on a tokio runtime.
    pub(crate) fn readers(&self) -> io::Result<(pipe::Receiver, pipe::Receiver)> {
        let options = pipe::OpenOptions::new();
        Ok((options.open_receiver(&self.out)?, options.open_receiver(&self.err)?))
    }
}
