//! Connections whose other end does not say, read or do what it should.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::bystander::Bystander;
use super::world::World;

/// How often the others are served while an attack consists of waiting.
const ROUNDS: usize = 40;
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// As many as this process may have: attacks leave out what is over it.
fn at_most(wanted: usize) -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = limit.current.or(limit.maximum).unwrap_or(u64::MAX);
    wanted.min(usize::try_from(most / 2).unwrap_or(usize::MAX))
}

/// Nothing is said, or the beginning of a handshake.
pub(super) async fn silent(world: &World, others: &Bystander) {
    let mut open = Vec::new();
    for n in 0..at_most(1_000) {
        let Ok(mut stream) = world.door.knock().await else {
            continue;
        };
        if n % 3 == 0 {
            let _ = stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await;
        }
        open.push(stream);
    }
    others.rounds(ROUNDS).await;
}

/// Nothing follows the handshake, or the beginning of a request.
pub(super) async fn idle(world: &World, others: &Bystander) {
    let mut open = Vec::new();
    for n in 0..at_most(5_000) {
        let Ok(mut stream) = world.door.enter(if n % 4 == 0 { b"h2" } else { b"" }).await else {
            continue;
        };
        if n % 3 == 0 {
            let _ = stream.write_all(b"GET /api HTTP/1.1\r\nhost: a\r\nx: ").await;
        }
        open.push(stream);
    }
    others.rounds(ROUNDS).await;
}

/// Requests whose answers nobody reads: lists in each form.
pub(super) async fn readers(world: &World, others: &Bystander) {
    world.fill().await;
    let accepts = [
        "application/json",
        "application/yaml",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
    ];
    unread(world, others, MAPS, &accepts).await;
}

/// Watches that nobody reads, while much is written.
pub(super) async fn watchers(world: &World, others: &Bystander) {
    world.fill().await;
    let uri = format!("{MAPS}?watch=1");
    let writes = async {
        let mut all = Vec::new();
        for n in 0..600 {
            let patch = json!({"data": {"text": format!("{n}{}", "x".repeat(50_000))}});
            let body = Bytes::from(patch.to_string());
            all.push((
                "PATCH",
                format!("{MAPS}/fill-{}", n % 10),
                "application/merge-patch+json",
                body,
            ));
        }
        world.all(all, 4).await;
    };
    tokio::join!(unread(world, others, &uri, &["application/json"]), writes);
}

async fn unread(world: &World, others: &Bystander, uri: &str, accepts: &[&str]) {
    let asked = (0..at_most(300)).map(|n| async move {
        let mut stream = world.door.enter(b"").await.ok()?;
        let accept = accepts[n % accepts.len()];
        let head = format!("GET {uri} HTTP/1.1\r\nhost: a\r\naccept: {accept}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.ok()?;
        // The answer has begun.
        stream.read_u8().await.ok()?;
        Some(stream)
    });
    let open = join_all(asked).await;
    others.rounds(ROUNDS).await;
    drop(open);
}

/// Many streams on one connection, none of which is read.
pub(super) async fn streams(world: &World, others: &Bystander) {
    world.fill().await;
    let mut open = Vec::new();
    for _ in 0..6 {
        let Some(mut sender) = multiplexed(world).await else {
            continue;
        };
        for _ in 0..200 {
            let request = http::Request::get(format!("https://a{MAPS}")).body(Empty::<Bytes>::new());
            let Ok(answer) = tokio::time::timeout(
                Duration::from_secs(20),
                sender.send_request(request.expect("a request")),
            )
            .await
            else {
                break;
            };
            open.extend(answer.ok());
        }
    }
    others.rounds(ROUNDS).await;
}

/// Requests that are taken back at once (CVE-2023-44487).
pub(super) async fn resets(world: &World, others: &Bystander) {
    let senders = join_all((0..4).map(|_| multiplexed(world))).await;
    join_all(senders.into_iter().flatten().map(|mut sender| async move {
        for _ in 0..5_000 {
            let request = http::Request::get(format!("https://a{MAPS}?limit=1")).body(Empty::<Bytes>::new());
            let asked = sender.send_request(request.expect("a request"));
            // Long enough that it is sent, too short for an answer.
            if let Ok(Err(_)) = tokio::time::timeout(Duration::from_micros(100), asked).await {
                return;
            }
        }
    }))
    .await;
    others.rounds(1).await;
}

type Multiplexed = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

async fn multiplexed(world: &World) -> Option<Multiplexed> {
    let stream = world.door.enter(b"h2").await.ok()?;
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// Long bodies of which now and then a byte comes.
pub(super) async fn dribbles(world: &World, others: &Bystander) {
    let begun = (0..at_most(64)).map(|_| async {
        let mut stream = world.door.enter(b"").await.ok()?;
        let head = format!(
            "POST {MAPS} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 3000000\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&vec![b' '; 100_000]).await.ok()?;
        Some(stream)
    });
    let mut open: Vec<_> = join_all(begun).await.into_iter().flatten().collect();
    let feeding = async {
        loop {
            for stream in &mut open {
                let _ = stream.write_all(b" ").await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = feeding => {}
        () = others.rounds(ROUNDS) => {}
    }
}

/// Watches that are read: as many as there may be.
pub(super) async fn watches(world: &World, others: &Bystander) {
    let mut open = Vec::new();
    for _ in 0..8 {
        let Some(mut sender) = multiplexed(world).await else {
            continue;
        };
        for _ in 0..200 {
            let request = http::Request::get(format!("https://a{MAPS}?watch=1&resourceVersion=0&limit=1"))
                .body(Empty::<Bytes>::new());
            let Ok(answer) = sender.send_request(request.expect("a request")).await else {
                break;
            };
            let mut body = answer.into_body();
            open.push(tokio::spawn(
                async move { while let Some(Ok(_)) = body.frame().await {} },
            ));
        }
    }
    others.rounds(ROUNDS).await;
    open.iter().for_each(tokio::task::JoinHandle::abort);
}
