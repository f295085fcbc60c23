//! How news reach a pod's worker. Bounded by construction: only the newest object is kept, and every other message
//! answers something that the worker (or a container of its) did once.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use afloat_runtime::registry::{PullError, Pulled};
use afloat_runtime::{Container, Exit};
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Notify;

use crate::pod::instance::HookKind;
use crate::pod::probe::Answer;
use crate::pod::spec::ProbeKind;

/// One piece of news.
#[derive(Debug)]
pub(crate) enum Message {
    Exited {
        id: String,
        exit: Exit,
    },
    Hook {
        id: String,
        kind: HookKind,
        result: Result<(), String>,
    },
    Pulled {
        container: String,
        end: Box<PullEnd>,
    },
    Probe {
        id: String,
        kind: ProbeKind,
        answer: Answer,
    },
}

/// How a pull ended.
#[derive(Debug)]
pub(crate) struct PullEnd {
    /// Of the container that it was for.
    pub(crate) hash: String,
    pub(crate) result: Result<Pulled, PullError>,
    pub(crate) took: Duration,
    /// Pull secrets that do not exist or cannot be read.
    pub(crate) missing_secrets: Vec<String>,
}

/// Everything since the last look.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// The newest object.
    pub(crate) pod: Option<Box<Pod>>,
    /// The object is gone from the API.
    pub(crate) gone: bool,
    /// The runtime's newest list of the pod's containers.
    pub(crate) listed: Option<Vec<Container>>,
    pub(crate) messages: Vec<Message>,
    /// A ConfigMap or Secret that its volumes show has changed.
    pub(crate) sources_changed: bool,
}

/// A worker's letter box.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    news: Mutex<News>,
    bell: Notify,
}

impl Mailbox {
    /// Puts something in.
    pub(crate) fn put(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_one();
    }

    /// Takes everything out.
    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut self.news.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something is put in; at once if something was since the last wait.
    pub(crate) async fn wait(&self) {
        self.bell.notified().await;
    }
}
