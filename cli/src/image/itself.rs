//! An image of this program, for people without Docker: what runs is copied, so it runs as it does here.

use std::path::{Path, PathBuf};

use afloat_runtime::image::BuildSpec;
use anyhow::Context as _;

/// What an agent reads a node's rules and connections with (docs/agent.md).
const TOOLS: [&str; 8] = [
    "iptables-nft-save",
    "ip6tables-nft-save",
    "iptables-legacy-save",
    "ip6tables-legacy-save",
    "iptables-save",
    "ip6tables-save",
    "nft",
    "conntrack",
];
/// Where tools are, with or without a PATH that says so.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
/// Whoever it is that is not root; the agents' pods say that they are.
const USER: &str = "65532:65532";

/// The program, its libraries, and the tools of nodes. Which of these this machine does not have is told.
pub(super) fn spec(name: Option<String>, env: Vec<String>, stop_signal: String) -> anyhow::Result<BuildSpec> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let mut files = vec![(program, "/usr/local/bin/afloat".to_owned())];
    let mut missing = Vec::new();
    for tool in TOOLS {
        let places = FOLDERS.iter().map(|folder| Path::new(folder).join(tool));
        match places.into_iter().find(|path| path.is_file()) {
            Some(path) => files.push((path, format!("/usr/sbin/{tool}"))),
            None => missing.push(tool),
        }
    }
    files.extend(extensions());
    if !missing.is_empty() {
        eprintln!(
            "afloat: this machine has no {}: agents with this image do without",
            missing.join(", ")
        );
    }
    Ok(BuildSpec {
        name: name.unwrap_or_else(|| concat!("afloat:", env!("CARGO_PKG_VERSION")).to_owned()),
        files,
        libraries: true,
        entrypoint: vec!["/usr/local/bin/afloat".to_owned()],
        env,
        user: USER.to_owned(),
        stop_signal,
        ..BuildSpec::default()
    })
}

/// What iptables loads to print its rules; distributions have it in different folders.
fn extensions() -> Vec<(PathBuf, String)> {
    let folders = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let folders = folders.chain(["/usr/lib", "/usr/lib64"].map(PathBuf::from));
    let found = folders
        .map(|folder| folder.join("xtables"))
        .filter(|folder| folder.is_dir());
    found
        .map(|folder| (folder.clone(), folder.to_string_lossy().into_owned()))
        .collect()
}
