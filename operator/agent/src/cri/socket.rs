//! Which socket is the runtime's: the one that was named, or of those where runtimes have theirs the one that answers.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::channel::{Call, Channel};
use super::proto::{ListContainersRequest, ListContainersResponse, VersionRequest, VersionResponse};
use super::read::POD_UID;
use crate::runtime::RuntimeError;

/// Where runtimes have their sockets: containerd, CRI-O, cri-dockerd, then the distributions that bring a containerd of their own (k3s and
/// RKE2, k0s, MicroK8s).
const KNOWN: [&str; 6] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/k0s/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
];

const LIMIT: Option<Duration> = Some(Duration::from_secs(5));
const VERSION: Call = Call {
    path: "/runtime.v1.RuntimeService/Version",
    limit: LIMIT,
};
const LIST: Call = Call {
    path: "/runtime.v1.RuntimeService/ListContainers",
    limit: LIMIT,
};

/// Where the runtime is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// At one of the places where runtimes are.
    Found,
    /// At this socket.
    Socket(PathBuf),
}

/// Not a place of a runtime.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("needs an absolute path of a Unix socket, as in unix:///run/containerd/containerd.sock")]
pub struct BadEndpoint;

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    /// `unix:///run/containerd/containerd.sock`, as the kubelet's `containerRuntimeEndpoint` has it, or the path alone.
    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let path = Path::new(text.strip_prefix("unix://").unwrap_or(text));
        if path.is_absolute() {
            Ok(Self::Socket(path.to_owned()))
        } else {
            Err(BadEndpoint)
        }
    }
}

/// A runtime that answers, and its name.
///
/// # Errors
/// None does, and why not.
pub(super) async fn find(endpoint: &Endpoint) -> Result<(Channel, String), RuntimeError> {
    let candidates: Vec<PathBuf> = match endpoint {
        Endpoint::Socket(path) => vec![path.clone()],
        Endpoint::Found => KNOWN.iter().map(PathBuf::from).filter(|path| path.exists()).collect(),
    };
    let mut silent = Vec::new();
    let mut answering = Vec::new();
    for path in candidates {
        let channel = Channel::new(&path);
        let version = VersionRequest {
            version: "v1".to_owned(),
        };
        match channel.ask::<_, VersionResponse>(VERSION, version).await {
            Ok(version) => answering.push((channel, version.runtime_name)),
            // A containerd of Docker's, for example, that has its CRI switched off.
            Err(status) => silent.push(format!("{}: {}", path.display(), status.message())),
        }
    }
    // Of several the kubelet's is the one that has pods.
    let mut idle = None;
    let only = answering.len() == 1;
    for (channel, name) in answering {
        if only || has_pods(&channel).await {
            return Ok((channel, name));
        }
        idle = idle.or(Some((channel, name)));
    }
    idle.ok_or_else(|| {
        RuntimeError::Unavailable(if silent.is_empty() {
            format!(
                "no runtime's socket at {}; name it with --runtime-endpoint",
                KNOWN.join(", ")
            )
        } else {
            silent.join("; ")
        })
    })
}

async fn has_pods(channel: &Channel) -> bool {
    let list: Result<ListContainersResponse, _> = channel.ask(LIST, ListContainersRequest::default()).await;
    list.is_ok_and(|list| {
        list.containers
            .iter()
            .any(|container| container.labels.contains_key(POD_UID))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_sockets() {
        let socket = Endpoint::Socket("/run/a.sock".into());
        assert_eq!("unix:///run/a.sock".parse(), Ok(socket.clone()));
        assert_eq!("/run/a.sock".parse(), Ok(socket));
        for bad in ["", "run/a.sock", "tcp://127.0.0.1:1", "unix://a.sock"] {
            assert_eq!(bad.parse::<Endpoint>(), Err(BadEndpoint), "{bad}");
        }
    }

    #[tokio::test]
    async fn nobody_at_a_socket_is_an_error_with_its_name() {
        let error = find(&Endpoint::Socket("/nonexistent/a.sock".into())).await.err();
        assert!(matches!(error, Some(RuntimeError::Unavailable(text)) if text.contains("/nonexistent/a.sock")));
    }
}
