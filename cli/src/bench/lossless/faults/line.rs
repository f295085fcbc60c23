//! The way between a part and the API server, which can be cut.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use afloat_apiserver::{ApiServer, Body, InProcess, User};
use futures::stream;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use tokio::sync::watch;
use tower_service::Service;

use super::life::{Life, Moment};
use super::reach::Reach;

/// A client of `user` whose requests are subject to faults; of a life that can be taken, or not.
pub(super) fn client(
    api: &ApiServer,
    user: User,
    reach: watch::Receiver<Reach>,
    life: Option<Arc<Life>>,
) -> kube::Client {
    let server = InProcess::new(api.clone(), user);
    kube::Client::new(Line { server, reach, life }, "default")
}

#[derive(Clone)]
struct Line {
    server: InProcess,
    reach: watch::Receiver<Reach>,
    life: Option<Arc<Life>>,
}

impl Service<Request<kube::client::Body>> for Line {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<kube::client::Body>) -> Self::Future {
        let line = self.clone();
        Box::pin(line.carry(request))
    }
}

impl Line {
    async fn carry(mut self, request: Request<kube::client::Body>) -> io::Result<Response<Body>> {
        let life = self.life.clone();
        let work = async {
            let writes = is_write(request.method(), request.uri().path());
            if let Some(life) = life.as_ref().filter(|_| writes) {
                life.strike(Moment::Before).await;
            }
            let response = self.exchange(request).await?;
            if let Some(life) = life.as_ref().filter(|_| writes && response.status().is_success()) {
                life.strike(Moment::After).await;
            }
            Ok(response.map(|body| self.cut_with_line(body)))
        };
        match &life {
            // Whoever is dead asks nothing and hears nothing.
            Some(life) => match life.ended.run_until_cancelled(work).await {
                Some(result) => result,
                None => std::future::pending().await,
            },
            None => work.await,
        }
    }

    async fn exchange(&mut self, request: Request<kube::client::Body>) -> io::Result<Response<Body>> {
        let mut cut = self.reach.clone();
        open(&mut self.reach).await?;
        let answer = tokio::select! {
            biased;
            () = refused(&mut cut) => return Err(io::ErrorKind::ConnectionReset.into()),
            answer = self.server.call(request) => answer.unwrap_or_else(|never: Infallible| match never {}),
        };
        open(&mut self.reach).await?;
        Ok(answer)
    }

    /// What a watch or a long list still has to say comes by the same way.
    fn cut_with_line(&self, body: Body) -> Body {
        let (reach, ended) = (self.reach.clone(), self.life.as_ref().map(|life| life.ended.clone()));
        let frames = stream::unfold(Some((body, reach)), move |state| {
            let ended = ended.clone();
            async move {
                let (mut body, mut reach) = state?;
                let mut cut = reach.clone();
                let next = async {
                    tokio::select! {
                        biased;
                        () = refused(&mut cut) => Some(Err(io::Error::from(io::ErrorKind::ConnectionReset).into())),
                        frame = body.frame() => match frame? {
                            Ok(frame) => match open(&mut reach).await {
                                Ok(()) => Some(Ok(frame)),
                                Err(error) => Some(Err(error.into())),
                            },
                            Err(error) => Some(Err(error)),
                        },
                    }
                };
                let frame = match &ended {
                    Some(ended) => ended.run_until_cancelled(next).await??,
                    None => next.await?,
                };
                let rest = frame.is_ok().then_some((body, reach));
                Some((frame, rest))
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

/// Waits while nothing comes through; an error where connections are refused.
async fn open(reach: &mut watch::Receiver<Reach>) -> io::Result<()> {
    match reach.wait_for(|reach| *reach != Reach::Silent).await {
        Ok(reach) if *reach == Reach::Refused => Err(io::ErrorKind::ConnectionRefused.into()),
        // Who could take it away is gone.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Returns once connections are cut.
async fn refused(reach: &mut watch::Receiver<Reach>) {
    if reach.wait_for(|reach| *reach == Reach::Refused).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Events tell people something; nobody decides on them, so they are no step of a rollout.
fn is_write(method: &Method, path: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !path.split('/').any(|part| part == "events")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_reads_are_no_steps() {
        let pod = "/api/v1/namespaces/events/pods/a";
        assert!(is_write(&Method::PATCH, "/api/v1/namespaces/shop/pods/a/status"));
        assert!(is_write(&Method::DELETE, "/api/v1/namespaces/shop/pods/a"));
        assert!(!is_write(&Method::GET, pod));
        assert!(!is_write(
            &Method::POST,
            "/apis/events.k8s.io/v1/namespaces/shop/events"
        ));
    }
}
