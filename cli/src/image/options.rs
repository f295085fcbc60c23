//! What `afloat image` is told.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::options::registries::RegistryFlags;

/// `afloat image`
#[derive(Args, Clone, Debug)]
pub(crate) struct ImageOptions {
    /// Where the cluster keeps its state [default: a folder of the user's]
    #[arg(long, env = "AFLOAT_DATA_DIR", value_name = "DIR", global = true)]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ImageCommand {
    /// Build an image from files
    Build(BuildOptions),
    /// Load an image from an OCI layout or a docker archive
    Load {
        /// A directory or a tar file
        path: PathBuf,
    },
    /// Pull an image from its registry
    Pull(PullOptions),
    /// List the images
    Ls,
    /// Forget a name, and with its last name the image
    Rm {
        /// Name of the image, or its id (sha256:…)
        name: String,
    },
    /// Remove layers that no image and no container has any more
    Prune {
        /// Remove images first that came from a registry and that no container uses
        #[arg(long)]
        all: bool,
    },
}

/// `afloat image pull`
#[derive(Args, Clone, Debug)]
pub(crate) struct PullOptions {
    /// Name of the image, for example registry.example.com/team/web:v1
    pub(crate) name: String,
    /// A file with users and passwords, as Docker's config.json
    #[arg(long, value_name = "FILE")]
    pub(crate) credentials: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) registries: RegistryFlags,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct BuildOptions {
    /// Name and tag, for example web:v1 [default with --self: afloat and the version]
    #[arg(required_unless_present = "itself")]
    pub(crate) name: Option<String>,
    /// An image of this program, for `afloat install`: with the libraries and the tools of nodes that this machine has
    #[arg(long = "self", conflicts_with_all = ["files", "libraries", "entrypoint", "cmd", "user", "working_dir"])]
    pub(crate) itself: bool,
    /// Write it into a tar file, as an OCI layout that `docker load`, `ctr images import` and the like take, and nowhere else
    #[arg(long, value_name = "FILE")]
    pub(crate) oci: Option<PathBuf>,
    /// A file or folder and where it goes in the image (may be given several times)
    #[arg(long = "file", value_name = "SRC=DST", value_parser = parse_pair)]
    pub(crate) files: Vec<(String, String)>,
    /// Add the shared libraries that the files need
    #[arg(long)]
    pub(crate) libraries: bool,
    /// Program to run, and arguments that are always given (may be given several times)
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) entrypoint: Vec<String>,
    /// Arguments that a pod may replace (may be given several times)
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) cmd: Vec<String>,
    /// A variable (may be given several times)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_pair)]
    pub(crate) env: Vec<(String, String)>,
    /// User that the program runs as
    #[arg(long, default_value = "")]
    pub(crate) user: String,
    /// Folder that the program starts in
    #[arg(long = "workdir", default_value = "")]
    pub(crate) working_dir: String,
    /// Signal that asks the program to stop
    #[arg(long, default_value = "")]
    pub(crate) stop_signal: String,
}

fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((a, b)) if !a.is_empty() => Ok((a.to_owned(), b.to_owned())),
        _ => Err("needs the form A=B".to_owned()),
    }
}
