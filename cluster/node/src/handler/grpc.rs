//! The gRPC health protocol (`grpc.health.v1.Health/Check`), as much of it as a probe needs: one request, one answer,
//! two fields of protobuf.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// Asks; Ok: the service says SERVING.
pub(super) async fn health(stream: TcpStream, service: &str) -> Result<(), String> {
    let text = |error: hyper::Error| format!("error: health rpc failed: {error}");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(text)?;
    let request = http::Request::post("http://grpc/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.33")
        .body(Full::new(message(service)))
        .map_err(|error| error.to_string())?;
    let ask = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let body = response.into_body().collect().await.map_err(text)?;
        Ok::<_, String>(body.to_bytes())
    };
    let connection = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    let answer = tokio::select! {
        answer = ask => answer?,
        () = connection => return Err("error: health rpc failed: connection closed".to_owned()),
    };
    match status(&answer) {
        Some(1) => Ok(()),
        Some(other) => Err(format!("service unhealthy (responded with {other})")),
        None => {
            Err("error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned())
        }
    }
}

/// gRPC frame with HealthCheckRequest{ service = 1 }.
fn message(service: &str) -> Bytes {
    let service = &service.as_bytes()[..service.len().min(127)];
    let mut body = vec![];
    if let (false, Ok(length)) = (service.is_empty(), u8::try_from(service.len())) {
        body.extend([0x0a, length]);
        body.extend_from_slice(service);
    }
    let mut frame = BytesMut::from(&[0u8; 4][..]);
    // flag and three bytes of length are zero: at most 129 bytes
    frame.extend([u8::try_from(body.len()).unwrap_or(0)]);
    frame.extend(body);
    frame.freeze()
}

/// HealthCheckResponse{ status = 1 }; an absent field is 0, UNKNOWN.
fn status(frame: &[u8]) -> Option<u8> {
    let body = frame.get(5..)?;
    match body {
        [0x08, status, ..] => Some(*status),
        [] => Some(0),
        _ => None,
    }
}
