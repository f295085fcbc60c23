//! What the operator does on a node by its runtime.
//!
//! `afloat agent` and the embedded cluster call the same [`run`]; they differ in the [`crate::runtime::NodeRuntime`] that they hand over.

use futures::FutureExt as _;
use futures::future::BoxFuture;

use crate::images;
use crate::node::{self, Node};
use crate::recreate;

/// Looks and works until the node's shutdown. What a runtime that is away cannot do is tried again when it is back.
pub fn run(node: Node) -> BoxFuture<'static, ()> {
    // Boxed where nothing is async: the code of a future is made where it is awaited, which would be each program that calls this.
    async move {
        tokio::join!(node::look(&node), images::run(&node), recreate::run(&node));
    }
    .boxed()
}
