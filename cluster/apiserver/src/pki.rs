//! The cluster's own certificate authority, the server's certificate, and the administrator's.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use afloat_certificates::{Facts, Pair, Purpose, authority, client, key, sign};
use afloat_machinery::authorization::User;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};

/// A certificate is renewed when it is loaded with less than this left.
const RENEWAL_DAYS: i64 = 30;

/// Why there is no PKI.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read or written.
    #[error("{path}: {why}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// A key or certificate is not what it should be.
    #[error("certificate: {0}; delete the directory to have a new authority made")]
    Certificate(String),
}

impl From<afloat_certificates::Error> for Error {
    fn from(error: afloat_certificates::Error) -> Self {
        Self::Certificate(error.to_string())
    }
}

/// Keys and certificates of one cluster, as PEM.
#[derive(Clone)]
pub struct Pki {
    ca: Pair,
    server: Pair,
    admin: Pair,
    tokens: String,
}

impl Pki {
    /// Loads what is in `dir` and makes what is missing there, expires within 30 days, or (the server's certificate) is
    /// not for exactly these names and addresses. Keys are readable by their owner only. Blocks on the file system.
    pub fn load_or_create(dir: &Path, names: &[String], ips: &[IpAddr]) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|why| Error::File {
            path: dir.to_owned(),
            why,
        })?;
        let now = Timestamp::now();
        let ca = match load(dir, "ca")? {
            Some(pair) => pair,
            None => save(dir, "ca", authority("afloat-ca", now)?)?,
        };
        let names: BTreeSet<String> = names
            .iter()
            .cloned()
            .chain(ips.iter().map(ToString::to_string))
            .collect();
        let server = match load(dir, "apiserver")?.filter(|pair| usable(pair, &ca, Some(&names))) {
            Some(pair) => pair,
            None => save(
                dir,
                "apiserver",
                sign(&ca, "kube-apiserver", Purpose::Server(&names), now)?,
            )?,
        };
        let admin = match load(dir, "admin")?.filter(|pair| usable(pair, &ca, None)) {
            Some(pair) => pair,
            None => {
                let masters = Purpose::Client("system:masters");
                save(dir, "admin", sign(&ca, "kubernetes-admin", masters, now)?)?
            }
        };
        let tokens = match read(dir, "sa.key")? {
            Some(key) => key,
            None => {
                let key = key()?;
                write(dir, "sa.key", &key)?;
                key
            }
        };
        Ok(Self {
            ca,
            server,
            admin,
            tokens,
        })
    }

    /// The authority's certificate, PEM (for `kube-root-ca.crt`).
    pub fn ca_pem(&self) -> &str {
        &self.ca.certificate
    }

    /// The authority, which signs what it is asked to.
    pub fn authority(&self) -> &Pair {
        &self.ca
    }

    /// The key of service account tokens, PEM. Tokens outlive the server with it.
    pub fn token_key(&self) -> &str {
        &self.tokens
    }

    /// A kubeconfig for the administrator, with everything inside. `server` is a URL.
    pub fn kubeconfig(&self, server: &str) -> String {
        let (ca, certificate, key) = (
            STANDARD.encode(&self.ca.certificate),
            STANDARD.encode(&self.admin.certificate),
            STANDARD.encode(&self.admin.key),
        );
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: afloat\nclusters:\n- name: afloat\n  cluster:\n    server: {server}\n    \
             certificate-authority-data: {ca}\nusers:\n- name: kubernetes-admin\n  user:\n    client-certificate-data: {certificate}\n    \
             client-key-data: {key}\ncontexts:\n- name: afloat\n  context:\n    cluster: afloat\n    user: kubernetes-admin\n"
        )
    }

    /// TLS of the server: client certificates of the authority are checked, having none is allowed.
    pub(crate) fn server_config(&self) -> io::Result<ServerConfig> {
        let other = |e: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidData, e.to_string());
        let provider = Arc::new(crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots
            .add(certificate(&self.ca.certificate).map_err(|e| other(&e))?)
            .map_err(|e| other(&e))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|e| other(&e))?;
        let key = PrivateKeyDer::from_pem_slice(self.server.key.as_bytes()).map_err(|e| other(&e))?;
        let chain = vec![certificate(&self.server.certificate).map_err(|e| other(&e))?];
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| other(&e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| other(&e))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

/// Who a client certificate is for: CN is the name, each O a group.
pub(crate) fn user(certificate: &CertificateDer<'_>) -> Option<User> {
    let (name, mut groups) = client(certificate)?;
    groups.push("system:authenticated".to_owned());
    Some(User {
        name,
        groups,
        ..User::default()
    })
}

fn certificate(pem: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| Error::Certificate(e.to_string()))
}

fn read(dir: &Path, file: &str) -> Result<Option<String>, Error> {
    let path = dir.join(file);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(why) => Err(Error::File { path, why }),
    }
}

fn load(dir: &Path, name: &str) -> Result<Option<Pair>, Error> {
    let read = |suffix: &str| read(dir, &format!("{name}.{suffix}"));
    Ok(read("crt")?
        .zip(read("key")?)
        .map(|(certificate, key)| Pair { certificate, key }))
}

fn save(dir: &Path, name: &str, pair: Pair) -> Result<Pair, Error> {
    for (suffix, text) in [("key", &pair.key), ("crt", &pair.certificate)] {
        write(dir, &format!("{name}.{suffix}"), text)?;
    }
    Ok(pair)
}

/// Written aside and renamed: a key cut short by a crash would lock everybody out.
fn write(dir: &Path, file: &str, text: &str) -> Result<(), Error> {
    let (path, aside) = (dir.join(file), dir.join(format!("{file}.new")));
    let write = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&aside, &path)
    };
    write().map_err(|why| Error::File {
        path: path.clone(),
        why,
    })
}

/// Whether a certificate is of this authority, has time left, and is for exactly these names.
fn usable(pair: &Pair, authority: &Pair, names: Option<&BTreeSet<String>>) -> bool {
    let (Some(facts), Some(authority)) = (Facts::read(&pair.certificate), Facts::read(&authority.certificate)) else {
        return false;
    };
    // Verified when it is used; here it is enough that it was made for the present authority's key.
    facts.is_signed_by(&authority)
        && facts.days_left(Timestamp::now()) > RENEWAL_DAYS
        && names.is_none_or(|wanted| facts.names == *wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn certificates_are_kept_until_the_names_change() {
        let dir = tempfile::tempdir().unwrap();
        let local = ["127.0.0.1".parse().unwrap()];
        let first = Pki::load_or_create(dir.path(), &["localhost".into()], &local).unwrap();
        let again = Pki::load_or_create(dir.path(), &["localhost".into()], &local).unwrap();
        assert_eq!(first.server.certificate, again.server.certificate);
        let more = Pki::load_or_create(dir.path(), &["localhost".into(), "afloat".into()], &local).unwrap();
        assert_ne!(first.server.certificate, more.server.certificate);
        assert_eq!(first.tokens, more.tokens);
        assert_eq!(
            (first.ca, first.admin.certificate.clone()),
            (more.ca, more.admin.certificate)
        );
        let mode = fs::metadata(dir.path().join("admin.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let user = user(&certificate(&first.admin.certificate).unwrap()).unwrap();
        assert_eq!(
            (user.name.as_str(), user.groups.first().map(String::as_str)),
            ("kubernetes-admin", Some("system:masters"))
        );
    }
}
