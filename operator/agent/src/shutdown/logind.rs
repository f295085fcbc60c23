//! systemd-logind over the system's D-Bus (org.freedesktop.login1(5)): its word that the machine goes down, and the lock that holds that up.

use std::num::NonZeroUsize;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedFd, Variant};

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const SIGNAL: &str = "PrepareForShutdown";
/// `InhibitDelayMaxSec` where nobody has set it (logind.conf(5)).
pub(super) const DEFAULT_DELAY: Duration = Duration::from_secs(5);
/// Signals that may wait to be heeded: there are two kinds, and each undoes the other.
const QUEUED_MAX: Option<NonZeroUsize> = NonZeroUsize::new(16);
/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Logind(Connection);

/// While it is kept the machine does not go down, up to [`Logind::delay`].
pub(super) struct Lock {
    _given_back_when_closed: OwnedFd,
}

impl Logind {
    /// By `DBUS_SYSTEM_BUS_ADDRESS`, or the socket where the bus is.
    pub(super) async fn connect() -> zbus::Result<Self> {
        let builder = zbus::connection::Builder::address(zbus::Address::system()?);
        limited(builder.build()).await.map(Self)
    }

    /// True: the machine goes down. False: it does not, after all.
    pub(super) async fn signals(&self) -> zbus::Result<impl Stream<Item = zbus::Result<bool>> + Unpin + use<>> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(NAME)
            .path(PATH)
            .interface(MANAGER)
            .member(SIGNAL)
            .build()?;
        let stream = limited(MessageStream::for_match_rule(rule, &self.0, QUEUED_MAX)).await?;
        Ok(stream.map(|message| message?.body().deserialize::<bool>()))
    }

    pub(super) async fn lock(&self) -> zbus::Result<Lock> {
        let what = ("shutdown", "afloat", "pods leave their Services first", "delay");
        let call = self.0.call_method(Some(NAME), PATH, Some(MANAGER), "Inhibit", &what);
        let descriptor = limited(call).await?.body().deserialize()?;
        Ok(Lock {
            _given_back_when_closed: descriptor,
        })
    }

    /// The machine is going down already.
    pub(super) async fn shuts_down(&self) -> zbus::Result<bool> {
        let answer = self.property("PreparingForShutdown").await?;
        let body = answer.body();
        bool::try_from(&body.deserialize::<Variant<'_>>()?)
    }

    /// So long a shutdown waits for locks.
    pub(super) async fn delay(&self) -> zbus::Result<Duration> {
        let answer = self.property("InhibitDelayMaxUSec").await?;
        let body = answer.body();
        u64::try_from(&body.deserialize::<Variant<'_>>()?).map(Duration::from_micros)
    }

    async fn property(&self, name: &str) -> zbus::Result<zbus::Message> {
        limited(
            self.0
                .call_method(Some(NAME), PATH, Some(PROPERTIES), "Get", &(MANAGER, name)),
        )
        .await
    }
}

async fn limited<T>(call: impl Future<Output = zbus::Result<T>>) -> zbus::Result<T> {
    let late = || zbus::Error::Failure(format!("D-Bus: no answer within {LIMIT:?}"));
    tokio::time::timeout(LIMIT, call).await.unwrap_or_else(|_| Err(late()))
}
