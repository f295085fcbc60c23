//! Certificates that this program makes itself, as PEM: authorities, what they sign, and what is to be read in one. Those of the embedded
//! API server and of the operator's webhook alike. Nothing is kept here, and no clock is looked at.

mod pair;
mod request;

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
pub use pair::Pair;
pub use rcgen::Error;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
pub use request::{Names, Request, Terms};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Life of an authority.
const AUTHORITY_YEARS: i32 = 10;
/// Life of what it signs.
const CERTIFICATE_YEARS: i32 = 1;
const DAY_SECONDS: i64 = 86_400;

/// What a certificate is good for.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// To be shown by a server under these DNS names and addresses.
    Server(&'a BTreeSet<String>),
    /// To be shown by a client that is in this group (organization); a certificate of ours has one.
    Client(&'a str),
}

/// A new authority, for ten years.
///
/// # Errors
/// If no key can be made.
pub fn authority(name: &str, now: Timestamp) -> Result<Pair, Error> {
    let key = KeyPair::generate()?;
    let mut params = params(name, now, AUTHORITY_YEARS);
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

/// A new certificate of an authority, for a year.
///
/// # Errors
/// If a name is none, or the authority's key is not its own.
pub fn sign(authority: &Pair, name: &str, purpose: Purpose<'_>, now: Timestamp) -> Result<Pair, Error> {
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
    let key = KeyPair::generate()?;
    let mut params = params(name, now, CERTIFICATE_YEARS);
    let usage = match purpose {
        Purpose::Server(names) => {
            for name in names {
                params.subject_alt_names.push(match name.parse::<IpAddr>() {
                    Ok(address) => SanType::IpAddress(address),
                    Err(_) => SanType::DnsName(name.as_str().try_into()?),
                });
            }
            ExtendedKeyUsagePurpose::ServerAuth
        }
        Purpose::Client(group) => {
            params.distinguished_name.push(DnType::OrganizationName, group);
            ExtendedKeyUsagePurpose::ClientAuth
        }
    };
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![usage];
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok(Pair {
        certificate,
        key: key.serialize_pem(),
    })
}

/// A new key that nothing vouches for.
///
/// # Errors
/// If none can be made.
pub fn key() -> Result<String, Error> {
    Ok(KeyPair::generate()?.serialize_pem())
}

/// Whether a text is a key.
pub fn is_key(pem: &str) -> bool {
    KeyPair::from_pem(pem).is_ok()
}

fn params(name: &str, now: Timestamp, years: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    let today = now.to_zoned(TimeZone::UTC).date();
    let date =
        |d: jiff::civil::Date| rcgen::date_time_ymd(d.year().into(), d.month().unsigned_abs(), d.day().unsigned_abs());
    // A day back, for clocks that are behind.
    params.not_before = date(today.saturating_sub(1.day()));
    params.not_after = date(today.saturating_add(years.years()));
    params
}

/// The certificates of a bundle.
pub fn split(bundle: &str) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    bundle
        .split(BEGIN)
        .skip(1)
        .map(|rest| format!("{BEGIN}{rest}"))
        .collect()
}

/// What a certificate says.
#[derive(Clone, Debug)]
pub struct Facts {
    der: CertificateDer<'static>,
    ends: i64,
    /// The DNS names and addresses that it is for.
    pub names: BTreeSet<String>,
}

impl Facts {
    /// None: the text is no certificate.
    pub fn read(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, parsed) = X509Certificate::from_der(&der).ok()?;
        let ends = parsed.validity().not_after.timestamp();
        let alternative = parsed.subject_alternative_name().ok().flatten();
        let names = alternative
            .into_iter()
            .flat_map(|extension| &extension.value.general_names);
        let names = names.filter_map(text).collect();
        Some(Self { der, ends, names })
    }

    /// Whole days until it ends; not more than zero once it has.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.ends - now.as_second()).div_euclid(DAY_SECONDS)
    }

    /// Whether it was made with this authority's key.
    pub fn is_signed_by(&self, authority: &Self) -> bool {
        let own = X509Certificate::from_der(&self.der);
        let authority = X509Certificate::from_der(&authority.der);
        let (Ok((_, own)), Ok((_, authority))) = (own, authority) else {
            return false;
        };
        own.verify_signature(Some(authority.public_key())).is_ok()
    }
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// Name and groups of the client that a certificate is for: its common name and its organizations.
pub fn client(certificate: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    request::subject(parsed.subject()).filter(|(name, _)| !name.is_empty())
}

/// Whether a text is certificates in PEM and nothing else; an empty one is fine.
///
/// # Errors
/// What else it is, in Kubernetes' words.
pub fn check_chain(pem: &[u8]) -> Result<(), String> {
    let mut found = pem.is_empty();
    for block in Pem::iter_from_buffer(pem) {
        let Ok(block) = block else { break };
        if block.label != "CERTIFICATE" {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        X509Certificate::from_der(&block.contents).map_err(|error| format!("x509: malformed certificate: {error}"))?;
        found = true;
    }
    found
        .then_some(())
        .ok_or_else(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_can_be_read() {
        let now: Timestamp = "2026-01-10T12:00:00Z".parse().unwrap();
        let (ours, theirs) = (authority("ours", now).unwrap(), authority("theirs", now).unwrap());
        let facts = |pair: &Pair| Facts::read(&pair.certificate).unwrap();
        let names: BTreeSet<String> = ["host.example", "127.0.0.1", "::1"].map(str::to_owned).into();
        let server = sign(&ours, "server", Purpose::Server(&names), now).unwrap();
        assert_eq!(facts(&server).names, names);
        assert!(facts(&server).is_signed_by(&facts(&ours)) && !facts(&server).is_signed_by(&facts(&theirs)));
        assert_eq!(
            (facts(&server).days_left(now), facts(&ours).days_left(now)),
            (364, 3651)
        );
        assert_eq!(facts(&server).days_left("2027-01-10T00:00:01Z".parse().unwrap()), -1);
        let person = sign(&ours, "anna", Purpose::Client("admins"), now).unwrap();
        let der = CertificateDer::from_pem_slice(person.certificate.as_bytes()).unwrap();
        assert_eq!(client(&der), Some(("anna".into(), vec!["admins".into()])));
        assert!(is_key(&person.key) && is_key(&key().unwrap()) && !is_key(&person.certificate));
        assert_eq!(
            split(&format!("{}{}", ours.certificate, theirs.certificate)),
            [ours.certificate, theirs.certificate]
        );
    }

    #[test]
    fn bad_input_is_an_error() {
        let now: Timestamp = "2026-01-10T12:00:00Z".parse().unwrap();
        let good = authority("a", now).unwrap();
        let names: BTreeSet<String> = ["\u{e4}".to_owned()].into();
        assert!(sign(&good, "a", Purpose::Server(&names), now).is_err());
        let bad = Pair {
            key: "no key".into(),
            ..good
        };
        assert!(sign(&bad, "a", Purpose::Client("b"), now).is_err());
        assert!(Facts::read("nonsense").is_none() && split("nonsense").is_empty());
        let chain = |pem: &str| check_chain(pem.as_bytes()).map_err(|why| why.split(',').next().unwrap().to_owned());
        let (one, key) = (authority("a", now).unwrap(), key().unwrap());
        assert_eq!(chain(&format!("{}{}", one.certificate, one.certificate)), Ok(()));
        assert_eq!(chain(""), Ok(()));
        assert_eq!(
            chain("x"),
            Err("must contain at least one CERTIFICATE PEM block".into())
        );
        assert_eq!(
            chain(&format!("{}{key}", one.certificate)),
            Err("only CERTIFICATE PEM blocks are allowed".into())
        );
    }
}
