//! The API server as others hold it, and its beginning: the state that follows from what is stored, and what every cluster has.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use afloat_machinery::authorization::{self, Roles, User};
use afloat_machinery::kinds::Registry;
use afloat_machinery::system_priority_classes;
use afloat_store::Store;
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Response;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admit::Admission;
use crate::auth::Tokens;
use crate::auth::authorization::Authorization;
use crate::auth::nodes::NodeAuthorizer;
use crate::auth::token::{Signer, new_key};
use crate::error::Error;
use crate::follow::{Addresses, Bound, Definitions, Followed, Prefixes};
use crate::kubelet::Kubelets;
use crate::metrics::{Metrics, WriteCount};
use crate::options::Options;
use crate::pki::Pki;
use crate::read::Reader;
use crate::serve::Router;
use crate::wire::body::Body;
use crate::wire::status::Reason;
use crate::write::Writer;
use crate::{background, mend, view};

/// Namespaces that exist from the beginning.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The API server. A cheap handle; clones share everything.
#[derive(Clone)]
pub struct ApiServer {
    router: Arc<Router>,
}

impl ApiServer {
    /// Serves what is in `store`: registers the definitions found there, counts the addresses of its Services as taken,
    /// and makes the namespaces that every cluster has. Must be called inside a tokio runtime.
    pub async fn new(store: Store, options: Options) -> Result<Self, Error> {
        let closed = store.closed();
        mend::mend(&store, &Registry::builtin()).await?;
        let router = Arc::new(router(store, &options)?);
        let namespace = |name: &&str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        for object in NAMESPACES.iter().map(namespace).chain(system_priority_classes()) {
            ensure(router.writer(), object).await?;
        }
        background::ensure_roles(router.writer(), &options.roles).await?;
        background::begin(router.writer(), &options, &closed);
        Ok(Self { router })
    }

    /// Answers one request in the name of `user`. Never fails: errors are `Status` objects.
    pub async fn handle<B>(&self, request: http::Request<B>, user: User) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<tower::BoxError>,
    {
        self.router.handle(request, user).await
    }

    /// Serves on `listener` until `shutdown`. Clients show a certificate of `pki`'s authority or a bearer token; whoever
    /// shows neither is `system:anonymous`, who may read health and version.
    pub fn serve<'a>(
        &'a self,
        listener: TcpListener,
        pki: &'a Pki,
        shutdown: CancellationToken,
    ) -> BoxFuture<'a, io::Result<()>> {
        // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
        self.router.serve(listener, pki, shutdown).boxed()
    }

    /// A client in this process, without a socket. `user` is the identity of its requests (a member of
    /// `system:masters`) and the name under which its writes are counted. Must be called inside a tokio runtime.
    pub fn client(&self, user: &str) -> kube::Client {
        self.client_as(User::master(user))
    }

    /// The same of somebody who may do what is allowed to them.
    pub fn client_as(&self, user: User) -> kube::Client {
        kube::Client::new(InProcess::new(self.clone(), user), "default")
    }

    /// Accepted writes since the start.
    pub fn writes(&self) -> Vec<WriteCount> {
        self.router.writes()
    }
}

/// Puts the parts together.
fn router(store: Store, options: &Options) -> Result<Router, Error> {
    let registry = Registry::builtin();
    let known = |group: &str, plural: &str| {
        let resource = registry.resolve(group, "v1", plural);
        resource.ok_or_else(|| Error::UnknownKind(format!("{plural}.{group}")))
    };
    let admission = |plural: &str| known("admissionregistration.k8s.io", plural);
    let policies = admission("validatingadmissionpolicies")?;
    let prefix = |plural: &str| admission(plural).map(|resource| view::prefix(&resource, None));
    let bound = Bound::new(Prefixes {
        policies: view::prefix(&policies, None),
        bindings: prefix("validatingadmissionpolicybindings")?,
        mutating: prefix("mutatingwebhookconfigurations")?,
        validating: prefix("validatingwebhookconfigurations")?,
    });
    let definitions = known("apiextensions.k8s.io", "customresourcedefinitions")?;
    let services = known("", "services")?;
    let bound = Followed::new(store.clone(), view::group_prefix(&policies), bound)?;
    let addresses = Addresses::new(options.service_cidr, options.node_ports.clone());
    let addresses = Followed::new(store.clone(), view::prefix(&services, None), addresses)?;
    let roles = known(authorization::GROUP, "clusterroles")?;
    let roles = Followed::new(store.clone(), view::group_prefix(&roles), Roles::default())?;
    let definitions = Followed::new(store.clone(), view::prefix(&definitions, None), Definitions::new())?;
    let key = options.token_key.clone().map_or_else(new_key, Ok)?;
    let metrics = Arc::<Metrics>::default();
    let reader = Reader::new(
        store.clone(),
        Arc::new(definitions),
        Arc::clone(&metrics),
        options.bookmark_interval,
        options.request_timeout,
        options.webhooks.clone(),
    );
    let nodes = NodeAuthorizer::new(store.clone(), reader.clone());
    let authorization = Arc::new(Authorization::new(nodes, Arc::new(roles)));
    let admission = Admission::new(
        reader.clone(),
        Arc::new(bound),
        Arc::new(addresses),
        Arc::clone(&authorization),
        options.mount_tokens,
    );
    let kubelets = Arc::clone(&options.kubelets);
    Ok(Router::new(
        Writer::new(store, reader.clone(), admission, Arc::clone(&metrics)),
        Tokens::new(Signer::new(&key)?, reader.clone()),
        authorization,
        Kubelets::new(kubelets, options.request_timeout, reader.clone()),
        reader,
        metrics,
        options.request_timeout,
    ))
}

/// Makes an object that every cluster has, if it is not there.
async fn ensure(writer: &Writer, object: Value) -> Result<(), Error> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let registry = writer.reader().registry();
    let Some(resource) = registry.by_kind(text("apiVersion"), text("kind")) else {
        return Ok(());
    };
    let name = view::meta(&object, "name").to_owned();
    if writer.reader().find(&resource, None, &name).is_some() {
        return Ok(());
    }
    match writer.insert(&resource, None, object, false, None).await {
        Ok(_) => Ok(()),
        Err(status) if status.reason == Reason::AlreadyExists => Ok(()),
        Err(why) => Err(Error::Bootstrap {
            what: format!("{} {name}", resource.singular),
            why,
        }),
    }
}

/// The server as a tower service for one fixed user.
#[derive(Clone)]
pub struct InProcess {
    server: ApiServer,
    user: User,
}

impl InProcess {
    /// Requests to `server` in the name of `user`.
    pub fn new(server: ApiServer, user: User) -> Self {
        Self { server, user }
    }
}

impl<B> tower::Service<http::Request<B>> for InProcess
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { Ok(this.server.handle(request, this.user).await) })
    }
}
