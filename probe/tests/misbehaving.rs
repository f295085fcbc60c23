//! Servers that misbehave in known ways are counted exactly.

#![allow(clippy::expect_used, clippy::unwrap_used)] // helpers of tests may fail as tests do

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use afloat_probe::{Lane, LostByKind, Mode, Options, Probe, Report, TcpDial};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Closes a connection with RST instead of FIN.
fn reset(stream: TcpStream) {
    stream.set_zero_linger().expect("a TCP socket");
    drop(stream);
}

/// What a server does with the n-th connection.
async fn serve<F, R>(behave: F) -> SocketAddr
where
    F: Fn(u64, TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(behave(number, stream));
            number += 1;
        }
    });
    address
}

async fn probe(address: SocketAddr, mode: Mode, options: Options) -> Report {
    let lane = Lane {
        mode,
        rate: 500,
        dial: Arc::new(TcpDial::new(vec![address]).unwrap()),
        authority: address.to_string(),
    };
    let report = Probe::run(options, vec![lane], CancellationToken::new()).await.unwrap();
    assert_eq!(report.sent, report.ok + report.lost, "all that was sent has an outcome");
    assert_eq!(report.losses.len() as u64, report.lost);
    report
}

fn requests(number: u64) -> Options {
    Options {
        requests: Some(number),
        connections: 1,
        ..Options::default()
    }
}

fn lost(report: &Report) -> LostByKind {
    report.modes[0].counts.lost
}

async fn request(stream: &mut TcpStream) -> bool {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read_exact(&mut byte).await.is_err() {
            return false;
        }
        text.push(byte[0]);
    }
    true
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const OK_CLOSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

#[tokio::test]
async fn nobody_listens() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for mode in Mode::ALL {
        let report = probe(address, mode, requests(20)).await;
        assert_eq!(lost(&report).refused, 20, "{mode}");
        assert_eq!(report.lost, 20, "{mode}");
    }
}

#[tokio::test]
async fn each_kind_of_answer_is_counted() {
    let address = serve(|number, mut stream| async move {
        match number % 5 {
            0 => {
                request(&mut stream).await;
                let _ = stream.write_all(OK_CLOSE).await;
            }
            1 => {
                request(&mut stream).await;
                reset(stream);
            }
            2 => {
                request(&mut stream).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
                    .await;
            }
            3 => {
                request(&mut stream).await;
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
                    .await;
            }
            _ => {
                request(&mut stream).await;
                let _ = stream.write_all(b"HTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let report = probe(address, Mode::HttpNew, requests(50)).await;
    assert_eq!(report.ok, 10);
    let expected = LostByKind {
        reset: 20,
        server_error: 10,
        other: 10,
        ..LostByKind::default()
    };
    assert_eq!(lost(&report), expected);
}

#[tokio::test]
async fn a_server_that_hangs_is_a_timeout_and_holds_up_nobody() {
    let address = serve(|_, mut stream| async move {
        // Reads until the client gives up.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    for mode in [Mode::HttpNew, Mode::TcpNew, Mode::Grpc, Mode::GrpcStream, Mode::Http2] {
        let options = Options {
            timeout: Duration::from_millis(200),
            ..requests(10)
        };
        let report = probe(address, mode, options).await;
        assert_eq!(lost(&report).timeout, 10, "{mode}: {:?}", report.losses);
    }
}

#[tokio::test]
async fn what_finds_no_room_is_skipped_and_the_result_is_not_valid() {
    let address = serve(|_, mut stream| async move {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let options = Options {
        timeout: Duration::from_secs(10),
        max_in_flight: 3,
        ..requests(10)
    };
    let report = probe(address, Mode::HttpNew, options).await;
    assert_eq!((report.sent, report.skipped, report.valid), (3, 7, false));
}

#[tokio::test]
async fn connection_close_is_honoured() {
    let address = serve(|_, mut stream| async move {
        for answer in [OK, OK, OK_CLOSE] {
            if !request(&mut stream).await {
                return;
            }
            let _ = stream.write_all(answer).await;
        }
        reset(stream);
    })
    .await;
    let report = probe(address, Mode::Http, requests(30)).await;
    assert_eq!((report.ok, report.lost), (30, 0), "{:?}", report.losses);
}

/// Every connection is good for two answers and cut under the third request.
async fn cut_under_the_third() -> SocketAddr {
    serve(|_, mut stream| async move {
        for _ in 0..2 {
            if !request(&mut stream).await {
                return;
            }
            let _ = stream.write_all(OK).await;
        }
        request(&mut stream).await;
    })
    .await
}

#[tokio::test]
async fn a_request_on_a_reused_connection_is_lost_if_it_is_not_answered() {
    let report = probe(cut_under_the_third().await, Mode::Http, requests(30)).await;
    assert_eq!((report.ok, lost(&report).reset), (20, 10));
}

#[tokio::test]
async fn unless_the_user_wants_to_see_what_clients_see_that_try_again() {
    let options = Options {
        retry_idle_close: true,
        ..requests(31)
    };
    let report = probe(cut_under_the_third().await, Mode::Http, options).await;
    assert_eq!((report.ok, report.lost), (31, 0));
    assert_eq!(
        report.modes[0].counts.reopened, 15,
        "every second request but the first"
    );
}

async fn line(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(stream.read_u8().await.ok()?);
    }
    Some(line)
}

#[tokio::test]
async fn long_connections_may_end_after_an_answer_only() {
    // Three answers and FIN.
    let clean = serve(|_, mut stream| async move {
        for _ in 0..3 {
            let Some(line) = line(&mut stream).await else { return };
            let _ = stream.write_all(&line).await;
        }
    })
    .await;
    let report = probe(clean, Mode::Tcp, requests(30)).await;
    assert_eq!((report.ok, report.lost), (30, 0), "{:?}", report.losses);
    assert_eq!(report.modes[0].counts.reopened, 9);
    // One answer and half of one.
    let half = serve(|_, mut stream| async move {
        for part in [1, 2] {
            let Some(line) = line(&mut stream).await else { return };
            let _ = stream.write_all(&line[..line.len() / part]).await;
        }
    })
    .await;
    let report = probe(half, Mode::Tcp, requests(30)).await;
    assert_eq!((report.ok, lost(&report).reset), (15, 15), "{:?}", report.losses);
    // One answer and RST under the next line.
    let cut = serve(|_, mut stream| async move {
        let Some(text) = line(&mut stream).await else { return };
        let _ = stream.write_all(&text).await;
        line(&mut stream).await;
        reset(stream);
    })
    .await;
    let report = probe(cut, Mode::Tcp, requests(30)).await;
    assert_eq!((report.ok, lost(&report).reset), (15, 15), "{:?}", report.losses);
}
