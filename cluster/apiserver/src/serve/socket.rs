//! The server on a socket: TLS with client certificates, HTTP/1.1 and HTTP/2, upgrades.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::token::own_audiences;
use crate::pki::Pki;
use crate::serve::Router;
use crate::wire::body::Body;
use crate::wire::request::bearer;
use crate::wire::status::Status;
use afloat_machinery::authorization::User;

/// Open connections at most; further ones wait to be accepted.
const CONNECTIONS_LIMIT: usize = 4096;
/// Limit for a TLS handshake, and for the head of a request.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long open connections may go on after a shutdown began.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

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
        let places = Arc::new(Semaphore::new(CONNECTIONS_LIMIT));
        let tasks = TaskTracker::new();
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                break;
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = Arc::clone(self).connection(stream, acceptor.clone(), shutdown.clone(), place);
                    tasks.spawn(connection);
                }
                Err(error) => {
                    // Out of descriptors, most likely: wait for some to be given back.
                    tracing::warn!(%error, "cannot accept a connection");
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
        acceptor: TlsAcceptor,
        shutdown: CancellationToken,
        _place: OwnedSemaphorePermit,
    ) {
        // Answers are small and awaited.
        let _ = stream.set_nodelay(true);
        let stream = match timeout(HANDSHAKE_LIMIT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake timed out"),
        };
        let certified = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| crate::pki::user(chain.first()?));
        let server = Arc::clone(&self);
        let service = service_fn(move |request: Request<Incoming>| {
            let (server, certified) = (Arc::clone(&server), certified.clone());
            async move { Ok::<_, std::convert::Infallible>(server.authenticated(request, certified).await) }
        });
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HANDSHAKE_LIMIT);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(1000)
            .keep_alive_interval(Duration::from_secs(30));
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(SHUTDOWN_LIMIT, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Finds out who is asking, then answers.
    async fn authenticated(&self, request: Request<Incoming>, certified: Option<User>) -> Response<Body> {
        let token = bearer(request.headers()).map(str::to_owned);
        let user = match (certified, token) {
            (Some(user), _) => user,
            (None, Some(token)) => match self.tokens.user(&token, &own_audiences()) {
                Some(known) => known.user,
                None => return Status::unauthorized().into_response(),
            },
            (None, None) => User::anonymous(),
        };
        self.handle(request, user).await
    }
}
