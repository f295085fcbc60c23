//! What cannot be done.

/// What cannot be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not take a node.
    #[error("cannot create node {name}: {source}")]
    Node {
        /// Which.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server did not list the pods.
    #[error("cannot list pods: {0}")]
    List(#[source] Box<kube::Error>),
    /// There is no such thing to do it to.
    #[error("{0}")]
    Absent(String),
    /// The fleet does not run any more.
    #[error("the fleet has stopped")]
    Stopped,
}
