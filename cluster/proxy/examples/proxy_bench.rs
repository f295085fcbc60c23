//! What the proxy costs: the same traffic straight to an echo server and through the proxy, side by side on loopback.
//!
//! `cargo run --release -p afloat-proxy --example proxy_bench [seconds per figure]`. Client, server and proxy share the
//! machine, so the ratios matter and not the figures: a connection through a proxy is two connections.

#![allow(clippy::print_stdout, clippy::unwrap_used)] // a program that prints, and may stop at the first error

#[path = "../tests/namespace/fake_api.rs"]
mod fake_api;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use afloat_proxy::{Proxy, ProxyOptions};
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Clients at a time.
const CLIENTS: usize = 32;
const IDLE: usize = 1000;

struct Figures {
    per_second: f64,
    latency_us: Histogram<u64>,
    failed: u64,
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(2.0);
    let length = Duration::from_secs_f64(seconds);
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let direct = server.local_addr().unwrap();
    tokio::spawn(echo(server));
    let through = SocketAddr::from(([127, 0, 0, 2], 18_080));
    let stop = CancellationToken::new();
    let proxy = start(direct, through, &stop);
    while TcpStream::connect(through).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    println!("{:<22}{:>14}{:>14}{:>9}   p50/p99 µs", "", "direct", "proxied", "ratio");
    for (name, keep_alive) in [("new connections /s", false), ("kept alive req/s", true)] {
        let [a, b] = [
            load(direct, length, keep_alive).await,
            load(through, length, keep_alive).await,
        ];
        let quantiles = |f: &Figures| {
            format!(
                "{}/{}",
                f.latency_us.value_at_quantile(0.5),
                f.latency_us.value_at_quantile(0.99)
            )
        };
        let failed = if a.failed + b.failed > 0 {
            format!("  FAILED {} {}", a.failed, b.failed)
        } else {
            String::new()
        };
        row(
            name,
            a.per_second,
            b.per_second,
            &format!("{} → {}{failed}", quantiles(&a), quantiles(&b)),
        );
    }
    let [a, b] = [bulk(direct, length).await, bulk(through, length).await];
    row("one stream MiB/s", a, b, "");
    let [a, b] = [idle(direct).await, idle(through).await];
    row("KiB per idle conn", a, b, "(client and server included)");
    let endpoint = &proxy.snapshot().services[0].endpoints[0];
    println!(
        "proxy: {} opened, {} refused, {} reset, {} timed out, {} failed",
        endpoint.opened, endpoint.refused, endpoint.reset, endpoint.timed_out, endpoint.failed
    );
    stop.cancel();
}

fn row(name: &str, direct: f64, through: f64, more: &str) {
    println!(
        "{name:<22}{direct:>14.1}{through:>14.1}{:>9.2}   {more}",
        through / direct
    );
}

fn start(endpoint: SocketAddr, service: SocketAddr, stop: &CancellationToken) -> std::sync::Arc<Proxy> {
    let api = fake_api::FakeApi::new();
    let ports = json!([{"port": service.port()}]);
    api.put(
        "services",
        json!({"metadata": {"name": "web"}, "spec": {"clusterIP": service.ip(), "ports": ports}}),
    );
    api.put(
        "endpointslices",
        json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
            "endpoints": [{"addresses": [endpoint.ip()]}], "ports": [{"name": "", "port": endpoint.port()}]}),
    );
    let proxy = Proxy::new(api.client(), ProxyOptions::new("bench", Ipv4Addr::LOCALHOST));
    tokio::spawn(proxy.clone().run(stop.clone()));
    proxy
}

async fn echo(server: TcpListener) {
    while let Ok((mut stream, _)) = server.accept().await {
        tokio::spawn(async move {
            stream.set_nodelay(true).unwrap();
            let mut buffer = vec![0; 16 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                if stream.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// Closed loop: each client asks again as soon as it has its answer.
async fn load(address: SocketAddr, length: Duration, keep_alive: bool) -> Figures {
    let begin = Instant::now();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(address, begin + length, keep_alive)))
        .collect();
    let (mut latency_us, mut failed) = (Histogram::new(3).unwrap(), 0);
    for client in clients {
        let (found, lost) = client.await.unwrap();
        latency_us.add(found).unwrap();
        failed += lost;
    }
    Figures {
        per_second: latency_us.len() as f64 / begin.elapsed().as_secs_f64(),
        latency_us,
        failed,
    }
}

async fn client(address: SocketAddr, until: Instant, keep_alive: bool) -> (Histogram<u64>, u64) {
    let (mut latency_us, mut failed) = (Histogram::new(3).unwrap(), 0);
    let mut kept = None;
    while Instant::now() < until {
        let begin = Instant::now();
        match ask(address, kept.take()).await {
            Ok(stream) => {
                latency_us.record(begin.elapsed().as_micros() as u64).unwrap();
                kept = keep_alive.then_some(stream);
            }
            Err(_) => failed += 1,
        }
    }
    (latency_us, failed)
}

async fn ask(address: SocketAddr, stream: Option<TcpStream>) -> std::io::Result<TcpStream> {
    let mut stream = match stream {
        Some(stream) => stream,
        None => TcpStream::connect(address).await?,
    };
    stream.set_nodelay(true)?;
    let mut buffer = [7; 256];
    stream.write_all(&buffer).await?;
    stream.read_exact(&mut buffer).await?;
    Ok(stream)
}

async fn bulk(address: SocketAddr, length: Duration) -> f64 {
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let begin = Instant::now();
    let sending = tokio::spawn(async move {
        let block = vec![7; 64 * 1024];
        while begin.elapsed() < length && write.write_all(&block).await.is_ok() {}
    });
    let (mut buffer, mut bytes) = (vec![0; 64 * 1024], 0);
    while let Ok(length @ 1..) = read.read(&mut buffer).await {
        bytes += length;
    }
    sending.await.unwrap();
    bytes as f64 / begin.elapsed().as_secs_f64() / f64::from(1 << 20)
}

async fn idle(address: SocketAddr) -> f64 {
    let before = resident_kib();
    let mut streams = Vec::new();
    for _ in 0..IDLE {
        streams.push(ask(address, None).await.unwrap());
    }
    let after = resident_kib();
    drop(streams);
    (after - before) / IDLE as f64
}

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
