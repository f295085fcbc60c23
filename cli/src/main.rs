//! The only binary: the embedded cluster, the operator and the tools around them.

mod agent;
mod app;
mod arguments;
mod bench;
mod check;
mod demo;
mod dns;
mod embedded;
mod image;
mod install;
mod load;
mod operator;
mod options;
mod output;
mod plan;
mod probe;
mod process;
mod up;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use afloat_cluster::layout;
use anyhow::Context as _;
use clap::Parser as _;

use arguments::{Arguments, Command};
use bench::{BenchNodeOptions, LosslessOptions, ReleaseOptions};
use demo::DemoOptions;
use process::inner::{Role as _, run_role};
use up::UpOptions;

fn main() -> ExitCode {
    // These two must stay single-threaded and small; they are looked for before anything else happens: `oci` forks and
    // changes namespaces, `app` runs as pid 1 of the demo's containers.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|a| a.to_str()) {
        Some("oci") => return exit_code(afloat_runtime::host::oci_main(&arguments[1..])),
        Some("app") => return app::run_app(&arguments[1..]),
        Some("inner") => return report(run_inner(&arguments[1..])),
        _ => {}
    }
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Demo(options) => report(demo::run_demo(&options)),
        Command::Up(options) => report(up::run_up(&options)),
        Command::Sample(options) => report(up::run_sample(&options)),
        Command::Operator(options) => report(operator::run_operator(options)),
        Command::Agent(options) => report(agent::run_agent(options)),
        Command::Check(options) => check::run_check(&options),
        Command::Plan(options) => plan::run_plan(&options),
        Command::Install(options) => report(install::print_install(options)),
        Command::Uninstall(options) => report(install::print_uninstall(options)),
        Command::Status(options) => install::run_status(&options),
        Command::Crds(options) => report(install::print_crds(&options)),
        Command::Takeover(options) => report(install::run_takeover(&options)),
        Command::Dns(options) => report(dns::run_dns(&options)),
        Command::Probe(options) => probe::run_probe(options),
        Command::Watch(options) => watch::run_watch(&options),
        Command::Restart(options) => watch::run_restart(&options),
        Command::Image(options) => report(image::run_image(options)),
        Command::Bench(options) => report(bench::run_bench(options)),
    }
}

/// In the inner process: `inner ROLE OPTIONS`.
fn run_inner(arguments: &[OsString]) -> anyhow::Result<i32> {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    // Large objects are read on whichever thread is free: with a heap for each, each would keep the room that they took. And of the
    // program itself most is needed at the start alone.
    let _singly = process::memory::start_small();
    layout::inner(|inherited| async move {
        match words.as_slice() {
            [UpOptions::NAME, options] => run_role::<UpOptions>(options, inherited).await,
            [DemoOptions::NAME, options] => run_role::<DemoOptions>(options, inherited).await,
            [BenchNodeOptions::NAME, options] => run_role::<BenchNodeOptions>(options, inherited).await,
            [LosslessOptions::NAME, options] => run_role::<LosslessOptions>(options, inherited).await,
            [ReleaseOptions::NAME, options] => run_role::<ReleaseOptions>(options, inherited).await,
            _ => anyhow::bail!("no role given"),
        }
    })
    .context("`inner` is started by afloat itself")?
}

/// Prints an error as one readable line and makes an exit code of it.
fn report(result: anyhow::Result<i32>) -> ExitCode {
    match result {
        Ok(code) => exit_code(code),
        Err(error) => {
            eprintln!("afloat: {}", output::one_line(&error));
            ExitCode::from(1)
        }
    }
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
