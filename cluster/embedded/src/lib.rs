#![doc = include_str!("../../../docs/embedded.md")]

mod addresses;
mod control_plane;
mod error;
mod part;
mod rights;
mod tls;

#[cfg(feature = "nodes")]
mod cluster;
#[cfg(feature = "nodes")]
mod host;
#[cfg(feature = "nodes")]
mod kubelets;
#[cfg(feature = "nodes")]
pub mod layout;
#[cfg(feature = "nodes")]
mod local_volumes;
#[cfg(feature = "nodes")]
mod node;
#[cfg(feature = "nodes")]
mod options;
#[cfg(feature = "nodes")]
mod ready;
#[cfg(feature = "nodes")]
mod shared;

pub use addresses::SERVICE_CIDR;
pub use afloat_apiserver::User;
pub use control_plane::{ControlPlane, ControlPlaneOptions};
pub use error::Error;
pub use part::{Direct, Running, StartPart, Supervisor};
pub use tls::certificates;

#[cfg(feature = "nodes")]
pub use addresses::CLUSTER_DOMAIN;
#[cfg(feature = "nodes")]
pub use cluster::{Cluster, own_image};
#[cfg(feature = "nodes")]
pub use host::{HostDns, host_ports};
#[cfg(feature = "nodes")]
pub use node::LocalNode;
#[cfg(feature = "nodes")]
pub use options::{ClusterOptions, Registries, WrapRuntime};
#[cfg(feature = "nodes")]
pub use shared::LEAVING_LIMIT;
