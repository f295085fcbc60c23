//! HTTP as Kubernetes speaks it: paths, queries, media types, bodies, refusals.

pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod duration;
pub(crate) mod exchange;
pub(crate) mod protobuf;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod status;
pub(crate) mod twice;
pub(crate) mod websocket;
