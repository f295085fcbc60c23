//! The cluster's own certificate authority, the server's certificate, and the administrator's.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use afloat_machinery::authorization::User;

/// Life of the authority.
const AUTHORITY_YEARS: i32 = 10;
/// Life of the certificates it signs.
const CERTIFICATE_YEARS: i32 = 1;
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

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::Certificate(error.to_string())
    }
}

/// Keys and certificates of one cluster, as PEM.
#[derive(Clone)]
pub struct Pki {
    ca: String,
    server: Pair,
    admin: Pair,
    tokens: String,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
struct Pair {
    certificate: String,
    key: String,
}

impl Pki {
    /// Loads what is in `dir` and makes what is missing there, expires within 30 days, or (the server's certificate) is
    /// not for exactly these names and addresses. Keys are readable by their owner only. Blocks on the file system.
    pub fn load_or_create(dir: &Path, names: &[String], ips: &[IpAddr]) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|why| Error::File {
            path: dir.to_owned(),
            why,
        })?;
        let authority = match load(dir, "ca")? {
            Some(pair) => pair,
            None => save(dir, "ca", make_authority()?)?,
        };
        let issuer = || {
            Ok::<_, Error>(Issuer::from_ca_cert_pem(
                &authority.certificate,
                KeyPair::from_pem(&authority.key)?,
            )?)
        };
        let sans = san_set(names, ips);
        let server = match load(dir, "apiserver")?.filter(|pair| usable(pair, &authority, Some(&sans))) {
            Some(pair) => pair,
            None => save(dir, "apiserver", make_server(&issuer()?, names, ips)?)?,
        };
        let admin = match load(dir, "admin")?.filter(|pair| usable(pair, &authority, None)) {
            Some(pair) => pair,
            None => save(
                dir,
                "admin",
                make_client(&issuer()?, "kubernetes-admin", "system:masters")?,
            )?,
        };
        let tokens = match read(dir, "sa.key")? {
            Some(key) => key,
            None => {
                let key = KeyPair::generate()?.serialize_pem();
                write(dir, "sa.key", &key)?;
                key
            }
        };
        Ok(Self {
            ca: authority.certificate,
            server,
            admin,
            tokens,
        })
    }

    /// The authority's certificate, PEM (for `kube-root-ca.crt`).
    pub fn ca_pem(&self) -> &str {
        &self.ca
    }

    /// The key of service account tokens, PEM. Tokens outlive the server with it.
    pub fn token_key(&self) -> &str {
        &self.tokens
    }

    /// A kubeconfig for the administrator, with everything inside. `server` is a URL.
    pub fn kubeconfig(&self, server: &str) -> String {
        let (ca, certificate, key) = (
            STANDARD.encode(&self.ca),
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
            .add(certificate(&self.ca).map_err(|e| other(&e))?)
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
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(str::to_owned)
        .collect();
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

fn params(name: &str, years: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    let date =
        |d: jiff::civil::Date| rcgen::date_time_ymd(d.year().into(), d.month().unsigned_abs(), d.day().unsigned_abs());
    // A day back, for clocks that are behind.
    params.not_before = date(today.saturating_sub(1.day()));
    params.not_after = date(today.saturating_add(years.years()));
    params
}

fn make_authority() -> Result<Pair, Error> {
    let key = KeyPair::generate()?;
    let mut params = params("afloat-ca", AUTHORITY_YEARS);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let certificate = params.self_signed(&key)?.pem();
    Ok(Pair {
        certificate,
        key: key.serialize_pem(),
    })
}

fn sign(
    issuer: &Issuer<'_, KeyPair>,
    mut params: CertificateParams,
    usage: ExtendedKeyUsagePurpose,
) -> Result<Pair, Error> {
    let key = KeyPair::generate()?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, issuer)?.pem();
    Ok(Pair {
        certificate,
        key: key.serialize_pem(),
    })
}

fn make_server(issuer: &Issuer<'_, KeyPair>, names: &[String], ips: &[IpAddr]) -> Result<Pair, Error> {
    let mut params = params("kube-apiserver", CERTIFICATE_YEARS);
    for name in names {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.as_str().try_into()?));
    }
    params
        .subject_alt_names
        .extend(ips.iter().map(|ip| SanType::IpAddress(*ip)));
    sign(issuer, params, ExtendedKeyUsagePurpose::ServerAuth)
}

fn make_client(issuer: &Issuer<'_, KeyPair>, name: &str, group: &str) -> Result<Pair, Error> {
    let mut params = params(name, CERTIFICATE_YEARS);
    params.distinguished_name.push(DnType::OrganizationName, group);
    sign(issuer, params, ExtendedKeyUsagePurpose::ClientAuth)
}

fn san_set(names: &[String], ips: &[IpAddr]) -> BTreeSet<String> {
    names
        .iter()
        .cloned()
        .chain(ips.iter().map(ToString::to_string))
        .collect()
}

/// Whether a certificate is of this authority, has time left, and is for exactly these names.
fn usable(pair: &Pair, authority: &Pair, sans: Option<&BTreeSet<String>>) -> bool {
    let (Ok(der), Ok(ca)) = (certificate(&pair.certificate), certificate(&authority.certificate)) else {
        return false;
    };
    let (Ok((_, parsed)), Ok((_, ca))) = (X509Certificate::from_der(&der), X509Certificate::from_der(&ca)) else {
        return false;
    };
    let left = parsed.validity().not_after.timestamp() - Timestamp::now().as_second();
    let names = parsed
        .subject_alternative_name()
        .ok()
        .flatten()
        .map(|ext| ext.value.general_names.iter().filter_map(san_text).collect());
    // Verified when it is used; here it is enough that it was made for the present authority's key.
    let signed = parsed.verify_signature(Some(ca.public_key())).is_ok();
    signed && left > RENEWAL_DAYS * 86_400 && sans.is_none_or(|wanted| names.as_ref() == Some(wanted))
}

fn san_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from))
                .ok()
                .map(|ip| ip.to_string())
        }
        _ => None,
    }
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
