//! What it takes to be reached over TLS: certificates, and a kubeconfig.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use afloat_apiserver::Pki;

use crate::addresses::{API_SERVICE, FIRST_NODE};
use crate::error::Error;

/// The names under which the API server is asked for: on the host, and in pods.
const NAMES: [&str; 5] = [
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// The keys and certificates of a cluster that keeps its state in `data_dir`; made there (in the folder `pki`) if they are missing
/// or expire soon.
///
/// # Errors
/// [`Error::Certificates`].
pub async fn certificates(data_dir: &Path) -> Result<Arc<Pki>, Error> {
    let dir = data_dir.join("pki");
    let made = tokio::task::spawn_blocking(move || {
        let addresses = [Ipv4Addr::LOCALHOST, API_SERVICE, FIRST_NODE].map(IpAddr::V4);
        Pki::load_or_create(&dir, &NAMES.map(str::to_owned), &addresses)
    });
    made.await?.map(Arc::new).map_err(Error::Certificates)
}

/// Writes the administrator's kubeconfig for an API server at this URL.
pub(crate) fn write_kubeconfig(path: &Path, pki: &Pki, url: &str) -> Result<(), Error> {
    write_private(path, &pki.kubeconfig(url)).map_err(|source| Error::Write {
        path: PathBuf::from(path),
        source,
    })
}

/// Writes a file that only its owner may read, atomically.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}
