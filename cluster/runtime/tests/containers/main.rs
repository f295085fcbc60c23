//! Real containers, as root and as an ordinary user. Says so and skips where the machine cannot.
//!
//! The program is its own outer process, inner process, OCI runtime and application inside of a container; `drive` looks at
//! it all from outside.

#![allow(clippy::print_stdout)] // what a program is for that talks to its driver
#![allow(clippy::expect_used)] // of the registry: helpers of tests may fail as tests do

mod boundary;
mod drive;
mod images;
mod inner;
mod limits;
#[path = "../registry/server.rs"]
mod registry;
mod sharing;
mod strangers;
mod users;

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use afloat_runtime::host::{self, HostError, HostOptions};

/// What `outer` answers when the machine lacks something.
const CANNOT: i32 = 77;

fn main() {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let rest = arguments.get(1..).unwrap_or_default();
    let code = match arguments.first().and_then(|a| a.to_str()) {
        Some("oci") => host::oci_main(rest),
        Some("inner") => inner::main(rest),
        Some("outer") => outer(rest),
        Some("app") => app(),
        _ => drive::main(&arguments),
    };
    std::process::exit(code)
}

/// `outer SCENARIO LISTEN [DATA_DIR]`
fn outer(arguments: &[OsString]) -> i32 {
    let listen = arguments
        .get(1)
        .and_then(|a| a.to_str())
        .and_then(|a| a.parse::<SocketAddr>().ok());
    let options = HostOptions {
        listen: listen.into_iter().collect(),
        data_dir: arguments.get(2).map(Into::into),
        inner_args: ["inner".into(), arguments.first().cloned().unwrap_or_default()].to_vec(),
        environment: vec![("FROM_OUTER".into(), "yes".into())],
    };
    match host::run(options) {
        Ok(code) => code,
        Err(HostError::Unsupported(reason)) => {
            eprintln!("{reason}");
            CANNOT
        }
        Err(error) => {
            eprintln!("{error}");
            3
        }
    }
}

/// Inside of a container: answers one connection after the other with what it read, turned round.
fn app() -> i32 {
    let Ok(listener) = TcpListener::bind("0.0.0.0:80") else {
        return 1;
    };
    println!("listening");
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else { return 2 };
        let mut bytes = [0; 4];
        if stream.read_exact(&mut bytes).is_ok() {
            bytes.reverse();
            let _ = stream.write_all(&bytes);
        }
    }
    0
}
