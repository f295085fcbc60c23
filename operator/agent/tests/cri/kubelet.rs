//! The kubelet's part of CRI, played: pods on the node's network whose containers are made with the kubelet's labels and annotations.

use std::collections::HashMap;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::uri::PathAndQuery;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tonic::body::Body;
use tonic_prost::ProstCodec;

/// `NamespaceMode.NODE`
const NODE: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct Namespaces {
    #[prost(int32, tag = "1")]
    network: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Security {
    #[prost(message, optional, tag = "1")]
    namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxSandbox {
    #[prost(message, optional, tag = "2")]
    security: Option<Security>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<Metadata>,
    #[prost(string, tag = "3")]
    log_directory: String,
    #[prost(map = "string, string", tag = "6")]
    labels: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxSandbox>,
}

#[derive(Clone, PartialEq, Message)]
struct RunSandbox {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

/// Requests and answers that are an id alone.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint32, tag = "2")]
    attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
struct ImageSpec {
    #[prost(string, tag = "1")]
    image: String,
    #[prost(string, tag = "18")]
    user_specified_image: String,
}

#[derive(Clone, PartialEq, Message)]
struct Variable {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Mount {
    #[prost(string, tag = "1")]
    container_path: String,
    #[prost(string, tag = "2")]
    host_path: String,
    #[prost(bool, tag = "3")]
    readonly: bool,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<ImageSpec>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    envs: Vec<Variable>,
    #[prost(message, repeated, tag = "7")]
    mounts: Vec<Mount>,
    #[prost(map = "string, string", tag = "9")]
    labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "10")]
    annotations: HashMap<String, String>,
    #[prost(string, tag = "11")]
    log_path: String,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainer {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

/// A pod that runs.
pub(crate) struct Pod {
    pub(crate) uid: String,
    name: String,
    sandbox: String,
    config: SandboxConfig,
}

pub(crate) struct Kubelet(SendRequest<Body>);

struct Sender(SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Sender {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Kubelet {
    pub(crate) async fn connect(socket: &Path) -> Self {
        let stream = tokio::net::UnixStream::connect(socket).await.expect("a socket");
        let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = shaken.expect("HTTP/2");
        tokio::spawn(connection);
        Self(sender)
    }

    async fn ask<M: Message + 'static>(&self, path: &'static str, message: M) -> Id {
        let mut client =
            tonic::client::Grpc::with_origin(Sender(self.0.clone()), http::Uri::from_static("http://localhost"));
        client.ready().await.expect("a connection");
        let path = PathAndQuery::from_static(path);
        let answer = client
            .unary(tonic::Request::new(message), path, ProstCodec::<M, Id>::default())
            .await;
        answer.expect("the runtime does it").into_inner()
    }

    pub(crate) async fn run_pod(&self, name: &str, uid: &str, logs: &Path) -> Pod {
        let labels = labels(&[
            ("io.kubernetes.pod.name", name),
            ("io.kubernetes.pod.namespace", "default"),
            ("io.kubernetes.pod.uid", uid),
        ]);
        let config = SandboxConfig {
            metadata: Some(Metadata {
                name: name.into(),
                uid: uid.into(),
                namespace: "default".into(),
            }),
            log_directory: logs.display().to_string(),
            labels,
            linux: Some(LinuxSandbox {
                security: Some(Security {
                    namespaces: Some(Namespaces { network: NODE }),
                }),
            }),
        };
        let request = RunSandbox {
            config: Some(config.clone()),
        };
        Pod {
            uid: uid.into(),
            name: name.into(),
            sandbox: self.ask("/runtime.v1.RuntimeService/RunPodSandbox", request).await.id,
            config,
        }
    }

    /// Makes and starts a container that runs a shell of this machine. Gives its bare id.
    pub(crate) async fn run(
        &self,
        pod: &Pod,
        attempt: u32,
        image: &str,
        script: &str,
        notes: &[(&str, &str)],
    ) -> String {
        let attempt_text = attempt.to_string();
        let mut annotations = labels(notes);
        annotations.insert("io.kubernetes.container.restartCount".into(), attempt_text.clone());
        let mount = |path: &str| Mount {
            container_path: path.into(),
            host_path: path.into(),
            readonly: true,
        };
        let mounts = ["/bin", "/lib", "/lib64", "/usr"];
        let mounts = mounts.into_iter().filter(|path| Path::new(path).exists());
        let mut own = pod.config.labels.clone();
        own.insert("io.kubernetes.container.name".into(), "app".into());
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: "app".into(),
                attempt,
            }),
            image: Some(ImageSpec {
                image: image.into(),
                user_specified_image: image.into(),
            }),
            command: ["/bin/sh", "-c", script].map(String::from).to_vec(),
            envs: vec![Variable {
                key: "ATTEMPT".into(),
                value: attempt_text,
            }],
            mounts: mounts.map(mount).collect(),
            labels: own,
            annotations,
            log_path: format!("{}-{attempt}.log", pod.name),
        };
        let request = CreateContainer {
            sandbox: pod.sandbox.clone(),
            config: Some(config),
            sandbox_config: Some(pod.config.clone()),
        };
        let made = self.ask("/runtime.v1.RuntimeService/CreateContainer", request).await;
        self.ask("/runtime.v1.RuntimeService/StartContainer", made.clone())
            .await;
        made.id
    }

    pub(crate) async fn remove(&self, pod: &Pod) {
        let sandbox = || Id {
            id: pod.sandbox.clone(),
        };
        self.ask("/runtime.v1.RuntimeService/StopPodSandbox", sandbox()).await;
        self.ask("/runtime.v1.RuntimeService/RemovePodSandbox", sandbox()).await;
    }
}

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
