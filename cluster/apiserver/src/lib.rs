//! HTTP in, Kubernetes out: a generic API server as one tower service.
//!
//! Objects are JSON values between the client and the store; no kind has a handler of its own beyond what its
//! subresources and its few admission rules need. The same service is reached over TLS by kubectl and without any socket
//! by a `kube::Client` in this process, and neither can tell.
//!
//! Known differences from the original: `metadata.managedFields` is not kept and server-side apply is refused (415);
//! protobuf is read but not written; a paged list reads each page from the present
//! state, so that an object may be missed or seen twice if it is renamed (that is, replaced) meanwhile.

mod admit;
mod auth;
mod background;
mod clock;
mod error;
mod follow;
mod kubelet;
mod mend;
mod metrics;
mod options;
pub mod pki;
mod proxy;
mod read;
mod serve;
mod server;
mod view;
mod wire;
mod write;

pub use afloat_machinery::authorization::User;
pub use error::Error;
pub use metrics::WriteCount;
pub use options::{ByteStream, KubeletDialer, Options, WebhookDialer};
pub use pki::Pki;
pub use server::{ApiServer, InProcess};
pub use wire::body::Body;
pub use wire::status::{Reason, Status};
