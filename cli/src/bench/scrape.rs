//! The operator's own figures, from its `/metrics`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use futures::FutureExt as _;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Limit of one request.
const LIMIT: Duration = Duration::from_secs(5);

/// Writes by reason and outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Writes(pub(super) BTreeMap<(String, String), u64>);

impl Writes {
    /// What came since `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let differences = self.0.iter().map(|(key, count)| {
            let old = before.0.get(key).copied().unwrap_or(0);
            (key.clone(), count.saturating_sub(old))
        });
        Self(differences.filter(|(_, count)| *count > 0).collect())
    }
}

/// An address that nothing listens on at this moment.
pub(super) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?)
}

/// Waits until the operator acts.
pub(super) async fn until_ready(address: SocketAddr, limit: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let leads = match get(address, "/metrics").await {
            Ok((StatusCode::OK, text)) => text.lines().any(|line| line == "afloat_operator_leading 1"),
            _ => false,
        };
        if leads {
            return Ok(());
        }
        anyhow::ensure!(started.elapsed() < limit, "it does not act after {} s", limit.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The operator's writes so far.
pub(super) async fn writes(address: SocketAddr) -> anyhow::Result<Writes> {
    let (status, text) = get(address, "/metrics")
        .await
        .context("cannot read the operator's metrics")?;
    anyhow::ensure!(status == StatusCode::OK, "the operator's metrics answer {status}");
    Ok(parse(&text))
}

fn parse(text: &str) -> Writes {
    let row = |line: &str| {
        let (labels, count) = line.strip_prefix("afloat_operator_writes_total{")?.split_once("} ")?;
        let label = |name: &str| {
            let (_, rest) = labels.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        Some(((label("reason")?, label("outcome")?), count.trim().parse().ok()?))
    };
    Writes(text.lines().filter_map(row).collect())
}

async fn get(address: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, String)> {
    let ask = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection.boxed());
        let request = Request::get(path)
            .header("host", address.to_string())
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        Ok::<_, anyhow::Error>((status, String::from_utf8_lossy(&body).into_owned()))
    };
    tokio::time::timeout(LIMIT, ask).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_by_reason_and_outcome() {
        let text = "# TYPE afloat_operator_writes counter\n\
            afloat_operator_writes_total{reason=\"drain\",outcome=\"done\"} 7\n\
            afloat_operator_writes_total{reason=\"drain\",outcome=\"conflict\"} 1\n\
            afloat_operator_reconcile_failures_total 3\n# EOF\n";
        let now = parse(text);
        let key = |outcome: &str| ("drain".to_owned(), outcome.to_owned());
        assert_eq!(now.0, BTreeMap::from([(key("done"), 7), (key("conflict"), 1)]));
        let before = Writes(BTreeMap::from([(key("done"), 5), (key("conflict"), 1)]));
        assert_eq!(now.since(&before).0, BTreeMap::from([(key("done"), 2)]));
    }
}
