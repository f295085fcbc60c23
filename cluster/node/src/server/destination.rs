//! Where forwarded connections lead to.

use std::sync::Arc;

use crate::context::Context;

/// A pod whose ports are forwarded.
#[derive(Clone)]
pub(super) struct Destination {
    pub(super) context: Arc<Context>,
    /// `name_namespace`, as the kubelet's messages have it.
    pub(super) pod: String,
    pub(super) uid: String,
}

impl Destination {
    pub(super) async fn connect(&self, port: u16) -> Result<tokio::net::TcpStream, String> {
        let connecting = self.context.runtime.connect_loopback(&self.uid, port);
        connecting.await.map_err(|error| self.failed(port, &error))
    }

    /// The words of the kubelet.
    pub(super) fn failed(&self, port: u16, why: &dyn std::fmt::Display) -> String {
        let Self { pod, uid, .. } = self;
        format!("error forwarding port {port} to pod {pod}, uid {uid}: {why}")
    }
}
