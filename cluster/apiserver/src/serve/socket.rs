//! The server on a socket: TLS with client certificates, HTTP/1.1 and HTTP/2, upgrades.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::token::own_audiences;
use crate::pki::Pki;
use crate::serve::Router;
use crate::serve::connections::{IDLE_LIMIT, Place};
use crate::serve::stalling::Stalling;
use crate::wire::body::{Body, held};
use crate::wire::request::{Peer, bearer};
use crate::wire::status::Status;
use crate::wire::websocket;
use afloat_machinery::authorization::User;

/// Limit for a TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Requests at once on one connection. Kubernetes has 250, too.
const STREAMS_LIMIT: u32 = 250;
/// Bytes that wait for a slow reader, for each of its requests.
const SEND_BUFFER_BYTES: usize = 16 << 10;
/// The longest head of a request over HTTP/1.1, and bytes that wait for a slow reader there. Over HTTP/2 a head has 16 KiB at most.
const BUFFER_BYTES: usize = 64 << 10;
/// How long a client may take next to nothing of what it asked for.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How long open connections may go on after a shutdown began.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// What is spoken on a connection.
fn protocols() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .max_buf_size(BUFFER_BYTES)
        .timer(TokioTimer::new())
        // It counts from the end of the request before: a client that begins its next one late must still be heard. Whoever sends
        // a head slowly holds no more than whoever sends none.
        .header_read_timeout(IDLE_LIMIT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_LIMIT)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(Duration::from_secs(30));
    builder
}

impl Router {
    /// Serves on `listener` until `shutdown`. Clients show a certificate of `pki`'s authority or a bearer token; whoever
    /// shows neither is `system:anonymous`.
    pub(crate) async fn serve(
        self: &Arc<Self>,
        listener: TcpListener,
        pki: &Pki,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let acceptor = TlsAcceptor::from(Arc::new(pki.server_config()?));
        let tasks = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let place = self.connections.enter();
                    let peer = Peer(peer.ip());
                    let connection =
                        Arc::clone(self).connection(stream, peer, acceptor.clone(), shutdown.clone(), place);
                    tasks.spawn(connection.boxed());
                }
                Err(error) => {
                    // Out of descriptors, most likely: wait for some to be given back.
                    tracing::warn!(%error, "cannot accept a connection");
                    self.connections.relieve();
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        tasks.close();
        let _ = timeout(SHUTDOWN_LIMIT, tasks.wait()).await;
        Ok(())
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: Peer,
        acceptor: TlsAcceptor,
        shutdown: CancellationToken,
        place: Place,
    ) {
        let taken = place.taken();
        let place = Arc::new(place);
        // Answers are small and awaited.
        let _ = stream.set_nodelay(true);
        let handshake = timeout(HANDSHAKE_LIMIT, acceptor.accept(stream));
        let stream = match taken.run_until_cancelled(handshake).await {
            Some(Ok(Ok(stream))) => stream,
            Some(Ok(Err(error))) => return tracing::debug!(%error, "TLS handshake failed"),
            Some(Err(_)) => return tracing::debug!("TLS handshake timed out"),
            None => return tracing::debug!("another connection takes the place of one without a handshake"),
        };
        let certified = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| crate::pki::user(chain.first()?));
        let server = Arc::clone(&self);
        let own = Arc::clone(&place);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            let (server, certified, busy) = (Arc::clone(&server), certified.clone(), own.busy());
            async move {
                let response = server.authenticated(request, certified).await;
                Ok::<_, std::convert::Infallible>(response.map(|body| held(body, busy)))
            }
        });
        let stream = TokioIo::new(Stalling::new(stream, STALL_LIMIT));
        let protocols = protocols();
        let connection = protocols.serve_connection_with_upgrades(stream, service);
        tokio::pin!(connection);
        let ends = async {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = place.idle() => {}
            }
        };
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = taken.cancelled() => return tracing::debug!("another connection takes the place of an idle one"),
            () = ends => {
                connection.as_mut().graceful_shutdown();
                timeout(SHUTDOWN_LIMIT, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Finds out who is asking, then answers.
    async fn authenticated(&self, mut request: Request<Incoming>, certified: Option<User>) -> Response<Body> {
        let token = match (bearer(request.headers()), websocket::take_token(request.headers_mut())) {
            (_, Err(status)) => return status.into_response(),
            (Some(token), _) => Some(token),
            (None, Ok(token)) => token,
        };
        let user = match (certified, token) {
            (Some(user), _) => user,
            (None, Some(token)) => match self.tokens.user(&token, &own_audiences()) {
                Some(known) => known.user,
                None => return Status::unauthorized().into_response(),
            },
            (None, None) => User::anonymous(),
        };
        let place = match self.in_flight.enter(&request, &user) {
            Ok(place) => place,
            Err(status) => return status.into_response(),
        };
        let response = self.handle(request, user).await;
        response.map(|body| held(body, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    /// A client in Go or of kube keeps a connection for 90 s.
    #[tokio::test(start_paused = true)]
    async fn a_connection_that_rests_is_still_there() {
        let (mut client, server) = duplex(4096);
        let service = service_fn(|_: Request<Incoming>| async {
            Ok::<_, std::convert::Infallible>(Response::new(crate::wire::body::full("")))
        });
        tokio::spawn(async move {
            let protocols = protocols();
            let _ = protocols
                .serve_connection_with_upgrades(TokioIo::new(server), service)
                .await;
        });
        let mut buffer = [0; 1024];
        for _ in 0..3 {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let count = client.read(&mut buffer).await.unwrap();
            assert!(buffer[..count].starts_with(b"HTTP/1.1 200"), "{count}");
            let rests = timeout(Duration::from_secs(91), client.read(&mut buffer)).await;
            assert!(rests.is_err(), "nothing is said meanwhile");
        }
        // Nobody rests for ever.
        let began = Instant::now();
        assert_eq!(client.read(&mut buffer).await.unwrap(), 0);
        assert_eq!(began.elapsed().as_secs(), 120 - 91);
    }
}
