//! One look at the node: kube-proxy's metrics, then its rules, then the connections.
//!
//! The order is what makes it a proof: a proxy that had nothing left to do before the rules were read has done it in them,
//! and connections that began under older rules are still there when the rules were read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Uri;
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use tokio::time::timeout;

use super::conntrack::{self, Connections};
use super::pods::Look;
use super::tool::{self, Failure};
use super::{iptables, ipvs, metrics, nftables};

/// Longest wait for kube-proxy's answer, which comes from the same machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest answer.
const ANSWER_LIMIT: usize = 8 << 20;
const IPVS_FILE: &str = "/proc/net/ip_vs";
const CONNTRACK_FILE: &str = "/proc/net/nf_conntrack";

/// How kube-proxy sends connections on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Chains of the table `nat`.
    Iptables,
    /// A table of its own.
    Nftables,
    /// The kernel's load balancer.
    Ipvs,
}

impl Mode {
    const ALL: [Mode; 3] = [Mode::Nftables, Mode::Ipvs, Mode::Iptables];

    /// kube-proxy's own word for it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Iptables => "iptables",
            Mode::Nftables => "nftables",
            Mode::Ipvs => "ipvs",
        }
    }
}

/// How to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// Mode of the node's kube-proxy; None to find out.
    pub mode: Option<Mode>,
    /// Where kube-proxy serves its metrics.
    pub metrics: Uri,
}

/// Why nothing can be seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Blind {
    /// One line that says what to do.
    pub why: String,
    /// It will not change by itself.
    pub lasting: bool,
}

impl Blind {
    fn lasting(why: String) -> Self {
        Self { why, lasting: true }
    }

    fn now(why: String) -> Self {
        Self { why, lasting: false }
    }
}

/// What looks.
pub(super) struct Eyes {
    options: Options,
    http: Client<HttpConnector, Empty<Bytes>>,
}

/// What was seen, and how.
pub(super) struct Seen {
    pub(super) look: Look,
    pub(super) mode: Mode,
    /// What is not known, though the rules are.
    pub(super) gaps: Vec<String>,
}

impl Eyes {
    pub(super) fn new(options: Options) -> Self {
        let http = Client::builder(TokioExecutor::new()).build_http();
        Self { options, http }
    }

    /// Looks at the rules for IPv4, IPv6 or both; counts connections if that matters.
    pub(super) async fn look(&self, families: (bool, bool), count: bool) -> Result<Seen, Blind> {
        let mut gaps = Vec::new();
        let asked_at = Instant::now();
        let (idle, told) = match self.ask().await {
            Ok((idle, told)) => (idle.then_some(asked_at), told),
            Err(error) => {
                gaps.push(format!(
                    "kube-proxy does not answer at {} ({error}): say --proxy-metrics, or drains take longer",
                    self.options.metrics
                ));
                (None, None)
            }
        };
        let (mode, routed) = self.rules(told, families).await?;
        let open = if count {
            match connections().await {
                Ok(open) => Some(open),
                Err(why) => {
                    gaps.push(why);
                    None
                }
            }
        } else {
            None
        };
        Ok(Seen {
            look: Look { routed, idle, open },
            mode,
            gaps,
        })
    }

    /// Whether kube-proxy has nothing left to do, and which mode it says it has.
    async fn ask(&self) -> Result<(bool, Option<Mode>), String> {
        let text = self.get(self.options.metrics.clone()).await?;
        let idle = metrics::idle(&text).ok_or("these are not kube-proxy's metrics")?;
        let mut parts = self.options.metrics.clone().into_parts();
        parts.path_and_query = "/proxyMode".parse().ok();
        let mode = match Uri::from_parts(parts) {
            Ok(uri) => self.get(uri).await.ok(),
            Err(_) => None,
        };
        let mode = mode.and_then(|name| Mode::ALL.into_iter().find(|mode| mode.name() == name.trim()));
        Ok((idle, mode))
    }

    async fn get(&self, uri: Uri) -> Result<String, String> {
        let all = async {
            let answer = self.http.get(uri).await.map_err(|error| cause(&error))?;
            if !answer.status().is_success() {
                return Err(answer.status().to_string());
            }
            let body = Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok(String::from_utf8_lossy(&body).into_owned())
        };
        let late = |_| format!("no answer within {ANSWER_TIMEOUT:?}");
        timeout(ANSWER_TIMEOUT, all).await.map_err(late)?
    }

    async fn rules(&self, told: Option<Mode>, families: (bool, bool)) -> Result<(Mode, BTreeSet<IpAddr>), Blind> {
        match (self.options.mode, told) {
            (Some(mode), Some(told)) if mode != told => Err(Blind::lasting(format!(
                "--proxy-mode is {}, but kube-proxy says that it is {}: say that, or auto",
                mode.name(),
                told.name()
            ))),
            (Some(mode), _) | (None, Some(mode)) => Ok((mode, routed(mode, families).await?)),
            (None, None) => {
                let mut blind = Vec::new();
                for mode in Mode::ALL {
                    match routed(mode, families).await {
                        Ok(addresses) => return Ok((mode, addresses)),
                        Err(error) => blind.push(error),
                    }
                }
                let why: Vec<_> = blind.iter().map(|blind| blind.why.as_str()).collect();
                let lasting = blind.iter().all(|blind| blind.lasting);
                let why = format!("kube-proxy cannot be seen in any mode: {}", why.join("; "));
                Err(Blind { why, lasting })
            }
        }
    }
}

/// The addresses that the node's rules send new connections to.
async fn routed(mode: Mode, families: (bool, bool)) -> Result<BTreeSet<IpAddr>, Blind> {
    let (v4, v6) = families;
    let mut all = BTreeSet::new();
    match mode {
        Mode::Ipvs => all.extend(by_ipvs().await?),
        Mode::Nftables => {
            if v4 {
                all.extend(by_nftables("ip").await?);
            }
            if v6 {
                all.extend(by_nftables("ip6").await?);
            }
        }
        Mode::Iptables => {
            if v4 {
                all.extend(by_iptables("iptables").await?);
            }
            if v6 {
                all.extend(by_iptables("ip6tables").await?);
            }
        }
    }
    Ok(all)
}

async fn by_iptables(family: &str) -> Result<BTreeSet<IpAddr>, Blind> {
    let mut missing = true;
    let mut broken = None;
    let mut old_tables = String::new();
    // The old iptables would be loaded into the kernel by asking for a table that is not there. Where it is not in the kernel
    // there is no such file.
    let names = format!("/proc/net/{}_tables_names", family.trim_end_matches("tables"));
    let _ = tool::read(&names, |line| old_tables.push_str(line)).await;
    for variant in ["-nft-save", "-legacy-save", "-save"] {
        if variant == "-legacy-save" && !old_tables.contains("nat") {
            continue;
        }
        let program = format!("{family}{variant}");
        let mut table = iptables::Table::default();
        match tool::run_tool(&program, &["-t", "nat"], |line| table.line(line)).await {
            Ok(()) => {
                missing = false;
                if let Some(addresses) = table.routed() {
                    return Ok(addresses);
                }
            }
            Err(Failure::Missing) => {}
            // The kernel may have the other variant alone.
            Err(failure) => {
                missing = false;
                broken = broken.or(Some(failed(&program, failure)));
            }
        }
    }
    if let Some(broken) = broken {
        return Err(broken);
    }
    Err(if missing {
        Blind::lasting(format!(
            "there is no {family}-save, which --proxy-mode iptables needs: install iptables in the agent's image"
        ))
    } else {
        Blind::now(format!(
            "{family}-save shows no rules of kube-proxy's mode iptables (see --proxy-mode)"
        ))
    })
}

async fn by_nftables(family: &str) -> Result<BTreeSet<IpAddr>, Blind> {
    let mut json = Vec::new();
    let arguments = ["-j", "list", "table", family, "kube-proxy"];
    let outcome = tool::run_tool("nft", &arguments, |line| {
        json.extend_from_slice(line.as_bytes());
        json.push(b'\n');
    });
    match outcome.await {
        Ok(()) => {}
        Err(Failure::Missing) => {
            return Err(Blind::lasting(
                "there is no nft, which --proxy-mode nftables needs: install nftables in the agent's image".to_owned(),
            ));
        }
        Err(Failure::Other(said)) if said.contains("No such file") => {
            return Err(Blind::now(format!(
                "there is no nftables table {family} kube-proxy (see --proxy-mode)"
            )));
        }
        Err(failure) => return Err(failed("nft", failure)),
    }
    // Some ten milliseconds a megabyte.
    let parsed = tokio::task::spawn_blocking(move || nftables::routed(&json)).await;
    let parsed = parsed.map_err(|error| Blind::now(format!("nft's output cannot be read: {error}")))?;
    parsed.map_err(|error| Blind::now(format!("nft -j prints what cannot be read: {error}")))
}

async fn by_ipvs() -> Result<BTreeSet<IpAddr>, Blind> {
    let mut text = String::new();
    let outcome = tool::read(IPVS_FILE, |line| {
        text.push_str(line);
        text.push('\n');
    });
    let nothing = || {
        Blind::now(format!(
            "{IPVS_FILE} has no services of kube-proxy's mode ipvs (see --proxy-mode)"
        ))
    };
    match outcome.await {
        Ok(()) => ipvs::routed(&text).ok_or_else(nothing),
        Err(Failure::Missing) => Err(nothing()),
        Err(failure) => Err(failed(IPVS_FILE, failure)),
    }
}

/// Connections that go on, or why they cannot be counted.
async fn connections() -> Result<Connections, String> {
    let mut all = Connections::new();
    let mut each = |line: &str| {
        if let Some(address) = conntrack::carried(line) {
            *all.entry(address).or_default() += 1;
        }
    };
    let outcome = match tool::read(CONNTRACK_FILE, &mut each).await {
        Err(Failure::Missing) => tool::run_tool("conntrack", &["-L", "-o", "extended"], &mut each).await,
        outcome => outcome,
    };
    outcome.map(|()| all).map_err(|failure| match failure {
        Failure::Missing => format!(
            "connections are not counted: there is neither {CONNTRACK_FILE} nor the program conntrack; install it in the \
             agent's image"
        ),
        failure => format!("connections are not counted: {}", failed("conntrack", failure).why),
    })
}

fn failed(what: &str, failure: Failure) -> Blind {
    match failure {
        Failure::Missing => Blind::lasting(format!("there is no {what}")),
        Failure::Denied(said) => Blind::lasting(format!(
            "{what} is refused ({said}): the agent has to be root with the capability NET_ADMIN, in the node's network"
        )),
        Failure::Other(said) => Blind::now(format!("{what} fails: {said}")),
    }
}

/// The innermost cause says most: that nothing listens, for example.
fn cause(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
