//! The inner process: what runs inside the namespaces that the outer process made.

use std::ffi::OsString;

use afloat_cluster::layout::{self, HostOptions, Inherited};
use anyhow::Context as _;
use futures::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::logging::start_logging;
use super::memory;
use super::signals::Stop;

/// What an inner process is there for: a command's options, and what comes of them inside.
pub(crate) trait Role: Serialize + DeserializeOwned {
    /// The word by which the inner process is told; no other role has it.
    const NAME: &'static str;
    /// What is logged, unless the user says otherwise.
    const LOGGED: &'static str = "error";

    /// All that the inner process does. Gives the exit code.
    async fn run_inside(self, inherited: Inherited, stop: Stop) -> anyhow::Result<i32>;
}

/// The inner process' command line.
pub(crate) fn inner_arguments<R: Role>(role: &R) -> anyhow::Result<Vec<OsString>> {
    Ok(vec![
        layout::INNER.into(),
        R::NAME.into(),
        serde_json::to_string(role)?.into(),
    ])
}

/// In the outer process: runs a role in a cluster that keeps nothing and that the host does not reach.
pub(crate) fn run_apart<R: Role>(role: &R) -> anyhow::Result<i32> {
    Ok(layout::outer(HostOptions {
        inner_args: inner_arguments(role)?,
        ..HostOptions::default()
    })?)
}

/// In the inner process: runs the role that was given.
pub(crate) async fn run_role<R: Role>(options: &str, inherited: Inherited) -> anyhow::Result<i32> {
    let role: R = serde_json::from_str(options).context("cannot read the role")?;
    start_logging(R::LOGGED);
    tokio::spawn(memory::give_back().boxed());
    role.run_inside(inherited, Stop::new()?).await
}

/// In the inner process: runs what cannot be taken up half-way until its end, or until the user wants it to stop.
pub(crate) async fn whole(
    restarts: u32,
    mut stop: Stop,
    run: impl Future<Output = anyhow::Result<i32>>,
) -> anyhow::Result<i32> {
    anyhow::ensure!(
        restarts == 0,
        "the cluster died half-way; its figures would mean nothing"
    );
    tokio::select! {
        result = run => result,
        code = stop.requested() => Ok(code),
    }
}
