//! systemd-logind, played on a bus of the test's own.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use futures::StreamExt as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd as _;
use zbus::{Connection, MessageStream, Variant};

use crate::cluster::wait_until;

const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";

/// See the module; gone when dropped.
pub(super) struct Logind {
    bus: Child,
    address: String,
    connection: Option<Connection>,
    /// The other ends of the locks that it gave: closed when the locks are given back.
    locks: Arc<Mutex<Vec<OwnedFd>>>,
    runtime: tokio::runtime::Runtime,
}

impl Logind {
    /// None, with a word why: there is no bus to be had.
    pub(super) fn start(dir: &Path, delay_seconds: u64) -> Option<Self> {
        if Command::new("dbus-daemon").arg("--version").output().is_err() {
            eprintln!("skipped: there is no dbus-daemon (Debian's package is dbus-daemon)");
            return None;
        }
        let socket = dir.join("bus");
        let config = format!(
            r#"<busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>
            <policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
            </busconfig>"#,
            socket.display()
        );
        let file = dir.join("bus.conf");
        std::fs::write(&file, config).expect("a file");
        let bus = Command::new("dbus-daemon")
            .arg("--nofork")
            .arg(format!("--config-file={}", file.display()))
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon starts");
        wait_until("the bus", || socket.exists());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let address = format!("unix:path={}", socket.display());
        let locks = Arc::<Mutex<Vec<OwnedFd>>>::default();
        let connection = runtime.block_on(async {
            let builder = zbus::connection::Builder::address(address.as_str());
            let connection = builder.build().await.expect("a connection");
            // First the ear, then the name: nobody is answered by silence.
            let asked = MessageStream::from(&connection);
            connection
                .request_name("org.freedesktop.login1")
                .await
                .expect("the name");
            tokio::spawn(answer(connection.clone(), asked, delay_seconds, locks.clone()));
            connection
        });
        Some(Self {
            bus,
            address,
            connection: Some(connection),
            locks,
            runtime,
        })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Tells of a shutdown, or that it is taken back.
    pub(super) fn tell(&self, begins: bool) {
        let connection = self.connection.as_ref().expect("it lives");
        let told = connection.emit_signal(None::<&str>, PATH, MANAGER, "PrepareForShutdown", &begins);
        self.runtime.block_on(told).expect("the signal");
    }

    /// Locks that are held.
    pub(super) fn held(&self) -> usize {
        let locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        let held = |lock: &&OwnedFd| {
            let mut ends = [PollFd::new(lock.as_fd(), PollFlags::POLLIN)];
            poll(&mut ends, PollTimeout::ZERO).expect("poll") == 0
        };
        locks.iter().filter(held).count()
    }
}

impl Drop for Logind {
    fn drop(&mut self) {
        self.connection = None;
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

async fn answer(connection: Connection, mut asked: MessageStream, delay_seconds: u64, locks: Arc<Mutex<Vec<OwnedFd>>>) {
    while let Some(Ok(message)) = asked.next().await {
        let header = message.header();
        let Some(member) = header
            .member()
            .filter(|_| message.message_type() == zbus::message::Type::MethodCall)
        else {
            continue;
        };
        let replied = match member.as_str() {
            "Inhibit" => {
                let (what, _, _, mode): (String, String, String, String) =
                    message.body().deserialize().expect("four texts");
                assert_eq!((what.as_str(), mode.as_str()), ("shutdown", "delay"));
                let (ours, theirs) = nix::unistd::pipe().expect("a pipe");
                locks.lock().unwrap_or_else(PoisonError::into_inner).push(ours);
                connection.reply(&header, &zbus::Fd::from(theirs)).await
            }
            "Get" => {
                let (_, name): (String, String) = message.body().deserialize().expect("two texts");
                let value = match name.as_str() {
                    "InhibitDelayMaxUSec" => Variant::from(delay_seconds * 1_000_000),
                    _ => Variant::from(false),
                };
                connection.reply(&header, &value).await
            }
            _ => continue,
        };
        replied.expect("an answer");
    }
}
