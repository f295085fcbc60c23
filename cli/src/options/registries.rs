//! What there is to say about registries.

use std::path::PathBuf;

use afloat_runtime::registry::{Mirror, RegistryOptions};
use clap::Args;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RegistryFlags {
    /// A registry that may be spoken to without TLS (may be given several times; those on this machine always may)
    #[arg(long = "insecure-registry", value_name = "HOST[:PORT]")]
    pub(crate) insecure: Vec<String>,
    /// Certificates (PEM) of authorities to trust for registries, beside the system's (may be given several times)
    #[arg(long = "registry-ca", value_name = "FILE")]
    pub(crate) authorities: Vec<PathBuf>,
    /// A server to ask before a registry, for example docker.io=http://localhost:5000 (may be given several times)
    #[arg(long = "registry-mirror", value_name = "REGISTRY=URL", value_parser = parse_mirror)]
    pub(crate) mirrors: Vec<String>,
}

/// What flags say about registries.
pub(crate) fn registry_options(flags: &RegistryFlags) -> RegistryOptions {
    RegistryOptions {
        insecure: flags.insecure.clone(),
        authorities: flags.authorities.clone(),
        // Checked when the command line was read.
        mirrors: flags
            .mirrors
            .iter()
            .filter_map(|text| Mirror::parse(text).ok())
            .collect(),
    }
}

fn parse_mirror(text: &str) -> Result<String, String> {
    Mirror::parse(text).map(|_| text.to_owned())
}
