//! The operator against two clusters: the embedded one with real containers, and Kubernetes' own API server with
//! simulated nodes. Every case is one function and passes on both; what one of the two does otherwise is found here.
//!
//! The operator is a process of its own with the rights of `rbac.yaml`. A ground is booted once; cases run on it side by
//! side, each in a namespace of its own, and then those that need the operator or the nodes for themselves, one by one.
//! `AFLOAT_CASES=hook cargo test --test operator` runs those with `hook` in their names.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do
#![allow(clippy::too_many_lines)] // a story is told in one piece

mod agent;
mod authorization;
mod budget;
mod case;
mod cases;
mod conversion;
mod embedded;
mod ground;
mod install;
mod kruise_crds;
mod kube_apiserver;
mod operator;
mod policies;
#[path = "../ports.rs"]
mod ports;
mod process;
mod rights;
mod takeover;

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Instant;

use futures::{FutureExt as _, StreamExt as _};

use crate::case::Case;
use crate::cases::{ALONE, Function, TOGETHER};
use crate::ground::Ground;

/// Cases under way at the same time: most of a case is waiting.
const SIDE_BY_SIDE: usize = 6;

#[test]
fn on_the_embedded_cluster() {
    run(Ground::embedded());
}

#[test]
fn on_kube_apiserver() {
    run(Ground::kube_apiserver());
}

/// `afloat agent` with exactly the rights of its manifest.
#[test]
fn the_agent_on_kube_apiserver() {
    block_on(agent::uses_its_rights());
}

/// `afloat install`, `afloat status` and `afloat uninstall`.
#[test]
fn install_on_kube_apiserver() {
    block_on(install::is_taken_and_looked_at());
}

/// `afloat takeover`, and back.
#[test]
fn takeover_on_kube_apiserver() {
    block_on(takeover::there_and_back());
}

/// The same with Kruise's own manager.
#[test]
fn takeover_from_kruise_itself() {
    block_on(takeover::itself::there_and_back());
}

/// The policies of `afloat check --policy`.
#[test]
fn policies_on_kube_apiserver() {
    block_on(policies::on_kube_apiserver());
}

#[test]
fn policies_on_the_embedded_cluster() {
    block_on(policies::on_the_embedded_cluster());
}

/// Conversion webhooks of strangers.
#[test]
fn conversion_on_kube_apiserver() {
    block_on(conversion::on_kube_apiserver());
}

#[test]
fn conversion_on_the_embedded_api_server() {
    block_on(conversion::on_the_embedded_api_server());
}

/// Roles, bindings and reviews.
#[test]
fn authorization_on_kube_apiserver() {
    block_on(authorization::is_that_of_kubernetes());
}

/// `afloat crds` where OpenKruise is.
#[test]
fn crds_over_those_of_openkruise() {
    block_on(kruise_crds::can_be_replaced());
}

/// Everything of a test happens on its own thread, so its processes end with it.
fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(work);
}

/// All cases on one ground.
fn run(ground: impl Future<Output = Option<Ground>>) {
    block_on(async {
        let booting = Instant::now();
        let Some(ground) = ground.await else { return };
        eprintln!("the ground is there after {:.1} s", booting.elapsed().as_secs_f64());
        let ground = Rc::new(ground);
        let part = std::env::var("AFLOAT_CASES").unwrap_or_default();
        let wanted = |(name, _): &&(&'static str, Function)| name.contains(&part);
        let together = TOGETHER.iter().filter(wanted).map(|case| one(ground.clone(), *case));
        let mut failed: Vec<_> = futures::stream::iter(together)
            .buffer_unordered(SIDE_BY_SIDE)
            .filter_map(std::future::ready)
            .collect()
            .await;
        for case in ALONE.iter().filter(wanted) {
            failed.extend(one(ground.clone(), *case).await);
        }
        let log = ground.operator_log();
        assert!(failed.is_empty(), "failed: {failed:?}; the operator said:\n{log}");
        let complaints = ["panicked", "forbidden"];
        let complaint = |line: &&str| complaints.iter().any(|word| line.contains(word));
        assert_eq!(log.lines().filter(complaint).collect::<Vec<_>>(), [""; 0]);
        ground.check_rights(part.is_empty());
    });
}

/// Runs a case; gives its name if it failed.
async fn one(ground: Rc<Ground>, (name, function): (&'static str, Function)) -> Option<&'static str> {
    let started = Instant::now();
    let run = async {
        let case = Rc::new(Case::new(ground, name).await);
        function(case.clone()).await;
        case.clean().await;
    };
    let result = AssertUnwindSafe(run).catch_unwind().await;
    let word = if result.is_ok() { "ok" } else { "FAILED" };
    eprintln!("{name} {word} ({:.1} s)", started.elapsed().as_secs_f64());
    result.is_err().then_some(name)
}
