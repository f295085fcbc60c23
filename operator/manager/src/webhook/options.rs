//! How the webhook is reached, and whether it serves.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use afloat_api::Door;

/// How the webhook is reached.
#[derive(Clone, Debug)]
pub struct Options {
    /// By the API server.
    pub door: Door,
    /// Where connections come in.
    pub listen: Listen,
    /// Namespace of the Secret with keys and certificates.
    pub namespace: String,
}

/// Where connections come in.
#[derive(Clone, Debug)]
pub enum Listen {
    /// At this port of all addresses.
    Port(u16),
    /// At a socket that is open already.
    Socket(Arc<TcpListener>),
}

/// What a webhook still lacks; clones share it. Without a webhook nothing is lacking.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lacks(Arc<[AtomicBool; 2]>);

impl Lacks {
    /// There is a webhook.
    pub(crate) fn begin(&self) {
        self.0.iter().for_each(|lack| lack.store(true, Ordering::Relaxed));
    }

    /// It listens.
    pub(crate) fn listens(&self) {
        self.0[0].store(false, Ordering::Relaxed);
    }

    /// It has a certificate to show.
    pub(crate) fn shows(&self) {
        self.0[1].store(false, Ordering::Relaxed);
    }

    /// Whether it does not serve yet.
    pub(crate) fn anything(&self) -> bool {
        self.0.iter().any(|lack| lack.load(Ordering::Relaxed))
    }
}
