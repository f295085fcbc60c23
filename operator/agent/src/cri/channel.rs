//! gRPC over a Unix socket: one connection that is made when it is needed, and made again when the runtime has been restarted.

use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::runtime::RuntimeError;

/// A socket that nobody accepts on for so long is dead.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Longest answer: what the kubelet takes (`maxMsgSize` of its client of CRI).
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The namespace of containerd that its CRI lives in.
const NAMESPACE: (&str, &str) = ("containerd-namespace", "k8s.io");

/// See the module.
pub(super) struct Channel {
    socket: PathBuf,
    sender: Mutex<Option<Sender>>,
}

/// What is asked, and how long an answer may take.
#[derive(Clone, Copy)]
pub(super) struct Call {
    /// `/runtime.v1.RuntimeService/Version`
    pub(super) path: &'static str,
    /// None: whoever asks has a limit.
    pub(super) limit: Option<Duration>,
}

impl Channel {
    /// Nothing is connected yet.
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            sender: Mutex::default(),
        }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Asks once. What the runtime refused is a [`Status`] with its words; what it could not be asked has the code Unavailable.
    pub(super) async fn ask<M, R>(&self, call: Call, message: M) -> Result<R, Status>
    where
        M: Message + 'static,
        R: Message + Default + 'static,
    {
        let asked = async {
            let sender = self.sender().await?;
            let mut client = Grpc::with_origin(sender, Uri::from_static("http://localhost"))
                .max_decoding_message_size(ANSWER_BYTES_MAX);
            if let Err(error) = client.ready().await {
                return Err(self.lost(&error));
            }
            let mut request = tonic::Request::new(message);
            request
                .metadata_mut()
                .insert(NAMESPACE.0, MetadataValue::from_static(NAMESPACE.1));
            let path = PathAndQuery::from_static(call.path);
            let answer = client.unary(request, path, ProstCodec::<M, R>::default()).await;
            answer
                .map(tonic::Response::into_inner)
                .map_err(|status| match status.source() {
                    // Not the runtime's words: the connection broke.
                    Some(source) if status.code() == Code::Unknown => self.lost(source),
                    _ => status,
                })
        };
        let Some(limit) = call.limit else { return asked.await };
        let late = || Status::unavailable(format!("{}: no answer within {limit:?}", self.socket.display()));
        timeout(limit, asked).await.unwrap_or_else(|_| Err(late()))
    }

    async fn sender(&self) -> Result<Sender, Status> {
        let known = self.lock().clone().filter(|sender| !sender.0.is_closed());
        if let Some(sender) = known {
            return Ok(sender);
        }
        let failed = |error: &dyn std::fmt::Display| Status::unavailable(format!("{}: {error}", self.socket.display()));
        let stream = timeout(CONNECT_LIMIT, UnixStream::connect(&self.socket)).await;
        let stream = stream
            .map_err(|_| failed(&"nobody accepts"))?
            .map_err(|error| failed(&error))?;
        let shaken = timeout(CONNECT_LIMIT, handshake(TokioExecutor::new(), TokioIo::new(stream))).await;
        let (sender, connection) = shaken
            .map_err(|_| failed(&"nobody answers"))?
            .map_err(|error| failed(&error))?;
        // Ends with the last sender, or with the runtime.
        tokio::spawn(connection.boxed());
        let sender = Sender(sender);
        *self.lock() = Some(sender.clone());
        Ok(sender)
    }

    /// The next one connects anew.
    fn lost(&self, why: &dyn std::error::Error) -> Status {
        *self.lock() = None;
        let cause = why.source().map_or_else(String::new, |cause| format!(": {cause}"));
        Status::unavailable(format!("{}: {why}{cause}", self.socket.display()))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Sender>> {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the runtime's refusal is to those who asked. `what`: what was asked about.
pub(super) fn refused(what: &str, status: &Status) -> RuntimeError {
    match status.code() {
        Code::NotFound => RuntimeError::NotFound(what.to_owned()),
        Code::Unavailable | Code::DeadlineExceeded => RuntimeError::Unavailable(status.message().to_owned()),
        _ => RuntimeError::Failed(format!("{what}: {}", status.message())),
    }
}

/// hyper's end of the connection as tonic takes it.
#[derive(Clone)]
struct Sender(SendRequest<Body>);

impl Service<Request<Body>> for Sender {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
