//! `afloat bench`: what parts of Afloat cost, and that they lose nothing. Each of its commands has a module.

mod child;
mod cluster;
mod figures;
mod kinds;
mod lossless;
mod node;
mod operator;
mod options;
mod phases;
mod release;
mod report;
mod scrape;
mod server;
mod template;
mod timed;
mod version;

use options::BenchCommand;

pub(crate) use lossless::LosslessOptions;
pub(crate) use node::BenchNodeOptions;
pub(crate) use options::BenchOptions;
pub(crate) use release::ReleaseOptions;

pub(crate) fn run_bench(options: BenchOptions) -> anyhow::Result<i32> {
    match options.command {
        BenchCommand::Operator(options) => operator::bench_operator(options),
        BenchCommand::Node(options) => node::bench_node(&options),
        BenchCommand::Lossless(options) => lossless::bench_lossless(&options),
        BenchCommand::Release(options) => release::bench_release(&options),
        BenchCommand::Server { dir } => server::serve_alone(&dir),
        BenchCommand::Leash { parent, words } => child::leash(parent, &words),
    }
}
