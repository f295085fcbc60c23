//! The only binary: the embedded cluster, the operator and the tools around them.

mod agent;
mod app;
mod args;
mod bench;
mod check;
mod demo;
mod dns;
mod embedded;
mod faults;
mod image;
mod inner;
mod load;
mod memory;
mod operator;
mod output;
mod plan;
mod probe;
mod up;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command};

fn main() -> ExitCode {
    // These two must stay single-threaded and small; they are looked for before anything else happens: `oci` forks and
    // changes namespaces, `app` runs as pid 1 of the demo's containers.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.first().and_then(|a| a.to_str()) {
        Some("oci") => return exit_code(afloat_runtime::host::oci_main(&arguments[1..])),
        Some("app") => return app::main(&arguments[1..]),
        Some("inner") => return report(inner::main(&arguments[1..])),
        _ => {}
    }
    let arguments = Arguments::parse();
    match arguments.command {
        Command::Demo(options) => report(demo::outer(&options)),
        Command::Up(options) => report(up::outer(&options)),
        Command::Operator(options) => report(operator::main(options)),
        Command::Agent(options) => report(agent::main(options)),
        Command::Check(options) => check::main(&options),
        Command::Plan(options) => plan::main(&options),
        Command::Crds => report(operator::print_crds()),
        Command::Dns(options) => report(dns::main(&options)),
        Command::Probe(options) => probe::main(options),
        Command::Watch(options) => watch::main(&options),
        Command::Image(options) => report(image::main(options)),
        Command::Bench(options) => report(bench::main(options)),
    }
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
