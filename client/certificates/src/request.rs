//! Requests for certificates that others make (PKCS #10, RFC 2986), and the certificates that an authority makes of them.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, SigningKey as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest, X509Name};
use yasna::models::ObjectIdentifier;
use yasna::tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME};
use yasna::{DERWriter, Tag};

use crate::pair::{Pair, pem};

/// A certificate begins so long before it is made, for clocks that are behind. Kubernetes' own figure.
const BACK: SignedDuration = SignedDuration::from_mins(5);
/// One that is shorter than this ends as late as was asked for; others end earlier by what they begin earlier.
const SHORT: SignedDuration = SignedDuration::from_hours(8);
/// From this year on times are written with four digits (RFC 5280, 4.1.2.5).
const GENERALIZED_FROM: i16 = 2050;

/// What a key may be used for, as requests name it: its bit in `KeyUsage`, or its object in `ExtendedKeyUsage`.
enum Usage {
    Bit(usize),
    Object(&'static [u64]),
}

/// Those that certificates of ours may have.
const USAGES: [(&str, Usage); 4] = [
    ("digital signature", Usage::Bit(0)),
    ("key encipherment", Usage::Bit(2)),
    ("server auth", Usage::Object(&[1, 3, 6, 1, 5, 5, 7, 3, 1])),
    ("client auth", Usage::Object(&[1, 3, 6, 1, 5, 5, 7, 3, 2])),
];

/// A request whose signature is that of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The subject and the key, as they stand in it.
    subject: Vec<u8>,
    key: Vec<u8>,
    /// The subject's last common name; empty if it has none.
    pub common_name: String,
    /// Its organizations, in order.
    pub organizations: Vec<String>,
    /// Names that it wants to be known by besides.
    pub names: Names,
}

/// Alternative names of a subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Of hosts.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

/// What a certificate is to be.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// What its key may be used for, in Kubernetes' words: `digital signature`, `key encipherment`, `client auth`, `server auth`.
    pub usages: &'a [String],
    /// How long it is to be good.
    pub lifetime: SignedDuration,
    /// Its number among those of its authority, which no other may have.
    pub serial: [u8; 16],
}

/// Common name and organizations of a subject: the last common name counts, as in Go. None: a text that we cannot read.
pub(crate) fn subject(name: &X509Name<'_>) -> Option<(String, Vec<String>)> {
    let mut common_name = String::new();
    for text in name.iter_common_name() {
        text.as_str().ok()?.clone_into(&mut common_name);
    }
    let organizations = name
        .iter_organization()
        .map(|text| Some(text.as_str().ok()?.to_owned()));
    Some((common_name, organizations.collect::<Option<_>>()?))
}

impl Request {
    /// Reads the first block of a text in PEM.
    ///
    /// # Errors
    /// That it is no request, or that its signature is not that of its key; in Go's words, which users of Kubernetes know.
    pub fn read(pem: &[u8]) -> Result<Self, String> {
        let block = parse_x509_pem(pem).map(|(_, block)| block).ok();
        let block = block.filter(|block| block.label == "CERTIFICATE REQUEST");
        let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
        let (rest, parsed) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|error| format!("asn1: structure error: {error}"))?;
        if !rest.is_empty() {
            return Err("asn1: syntax error: trailing data".to_owned());
        }
        let info = &parsed.certification_request_info;
        let (common_name, organizations) = subject(&info.subject).ok_or("x509: the subject cannot be read")?;
        let names = names(&parsed)?;
        parsed.verify_signature().map_err(|_| {
            let algorithm = &info.subject_pki.algorithm.algorithm;
            if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
                "x509: ECDSA verification failure"
            } else if *algorithm == OID_PKCS1_RSAENCRYPTION {
                "crypto/rsa: verification error"
            } else {
                "x509: cannot verify signature: algorithm unimplemented"
            }
        })?;
        Ok(Self {
            subject: info.subject.as_raw().to_vec(),
            key: info.subject_pki.raw.to_vec(),
            common_name,
            organizations,
            names,
        })
    }

    /// The certificate that an authority makes of it, as PEM: the subject, the key and the names are the request's, all else is by `terms`.
    ///
    /// # Errors
    /// If the authority has ended, is none of ours, or a usage is none that we give.
    pub fn sign(&self, authority: &Pair, terms: Terms<'_>, now: Timestamp) -> Result<String, String> {
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let key = KeyPair::from_pem(&authority.key).map_err(|error| told(&error))?;
        if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err("the authority's key is not of P-256".to_owned());
        }
        let der = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).map_err(|error| told(&error))?;
        let (_, issuer) = X509Certificate::from_der(&der).map_err(|error| told(&error))?;
        let end = Timestamp::from_second(issuer.validity().not_after.timestamp()).map_err(|error| told(&error))?;
        let validity = validity(terms.lifetime, now, end)?;
        let usages = usages(terms.usages)?;
        let signed = yasna::construct_der(|writer| self.write(writer, &issuer, &usages, validity, terms.serial));
        let signature = key.sign(&signed).map_err(|error| told(&error))?;
        let certificate = yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_der(&signed);
                write_algorithm(writer.next());
                writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
            });
        });
        Ok(pem("CERTIFICATE", &certificate))
    }

    fn write(
        &self,
        writer: DERWriter<'_>,
        issuer: &X509Certificate<'_>,
        usages: &Usages,
        (from, to): (Timestamp, Timestamp),
        serial: [u8; 16],
    ) {
        writer.write_sequence(|writer| {
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
            writer.next().write_bigint_bytes(&serial, true);
            write_algorithm(writer.next());
            writer.next().write_der(issuer.subject().as_raw());
            writer.next().write_sequence(|writer| {
                write_time(writer.next(), from);
                write_time(writer.next(), to);
            });
            writer.next().write_der(&self.subject);
            writer.next().write_der(&self.key);
            writer.next().write_tagged(Tag::context(3), |writer| {
                writer.write_sequence(|writer| {
                    for (id, critical, value) in self.extensions(issuer, usages) {
                        writer.next().write_sequence(|writer| {
                            writer.next().write_oid(&ObjectIdentifier::from_slice(id));
                            if critical {
                                writer.next().write_bool(true);
                            }
                            writer.next().write_bytes(&value);
                        });
                    }
                });
            });
        });
    }

    /// Name, whether nobody may overlook it, and value of each (RFC 5280, 4.2).
    fn extensions(&self, issuer: &X509Certificate<'_>, usages: &Usages) -> Vec<(&'static [u64], bool, Vec<u8>)> {
        let mut all: Vec<(&'static [u64], bool, Vec<u8>)> = Vec::new();
        if let Some(last) = usages.bits.iter().max() {
            let byte = usages.bits.iter().fold(0_u8, |byte, bit| byte | (0x80 >> bit));
            let value = yasna::construct_der(|writer| writer.write_bitvec_bytes(&[byte], last + 1));
            all.push((&[2, 5, 29, 15], true, value));
        }
        if !usages.objects.is_empty() {
            let value = yasna::construct_der(|writer| {
                writer.write_sequence(|writer| {
                    for object in &usages.objects {
                        writer.next().write_oid(&ObjectIdentifier::from_slice(object));
                    }
                });
            });
            all.push((&[2, 5, 29, 37], false, value));
        }
        // No authority.
        all.push((
            &[2, 5, 29, 19],
            true,
            yasna::construct_der(|writer| writer.write_sequence(|_| {})),
        ));
        let id = issuer
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0),
                _ => None,
            });
        if let Some(id) = id {
            let value = yasna::construct_der(|writer| {
                writer.write_sequence(|writer| {
                    writer
                        .next()
                        .write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(id));
                });
            });
            all.push((&[2, 5, 29, 35], false, value));
        }
        if self.names != Names::default() {
            let nameless = self.common_name.is_empty() && self.organizations.is_empty();
            all.push((&[2, 5, 29, 17], nameless, self.names.write()));
        }
        all
    }
}

impl Names {
    fn write(&self) -> Vec<u8> {
        yasna::construct_der(|writer| {
            writer.write_sequence(|writer| {
                let mut put = |number, bytes: &[u8]| {
                    writer
                        .next()
                        .write_tagged_implicit(Tag::context(number), |writer| writer.write_bytes(bytes));
                };
                self.dns.iter().for_each(|name| put(2, name.as_bytes()));
                self.emails.iter().for_each(|name| put(1, name.as_bytes()));
                for address in &self.addresses {
                    match address {
                        IpAddr::V4(address) => put(7, &address.octets()),
                        IpAddr::V6(address) => put(7, &address.octets()),
                    }
                }
                self.uris.iter().for_each(|name| put(6, name.as_bytes()));
            });
        })
    }
}

/// The alternative names that a request asks for.
fn names(parsed: &X509CertificationRequest<'_>) -> Result<Names, String> {
    let mut names = Names::default();
    let extensions = parsed.requested_extensions().into_iter().flatten();
    for extension in extensions {
        let ParsedExtension::SubjectAlternativeName(found) = extension else {
            continue;
        };
        for name in &found.general_names {
            match name {
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => names.emails.push((*name).to_owned()),
                GeneralName::URI(name) => names.uris.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => {
                    let four = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                    let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
                    let length = bytes.len();
                    let address = address.map_err(|_| format!("x509: cannot parse IP address of length {length}"))?;
                    names.addresses.push(address);
                }
                // As Go, which knows no others.
                _ => {}
            }
        }
    }
    Ok(names)
}

/// When a certificate begins and ends (Kubernetes' `PermissiveSigningPolicy`).
fn validity(lifetime: SignedDuration, now: Timestamp, end: Timestamp) -> Result<(Timestamp, Timestamp), String> {
    if now >= end {
        return Err(format!("the authority has expired: NotAfter={end}"));
    }
    let back = if lifetime < SHORT { SignedDuration::ZERO } else { BACK };
    let to = now.saturating_add(lifetime - back).unwrap_or(Timestamp::MAX);
    let from = now.saturating_sub(BACK).unwrap_or(now);
    Ok((from, to.min(end)))
}

struct Usages {
    bits: Vec<usize>,
    objects: Vec<&'static [u64]>,
}

fn usages(asked: &[String]) -> Result<Usages, String> {
    let mut usages = Usages {
        bits: Vec::new(),
        objects: Vec::new(),
    };
    for name in asked {
        let known = USAGES.iter().find(|(known, _)| known == name);
        match known.ok_or_else(|| format!("unrecognized usage: {name:?}"))? {
            (_, Usage::Bit(bit)) => usages.bits.push(*bit),
            (_, Usage::Object(object)) => usages.objects.push(object),
        }
    }
    Ok(usages)
}

/// `ecdsa-with-SHA256` (RFC 5758, 3.2).
fn write_algorithm(writer: DERWriter<'_>) {
    writer.write_sequence(|writer| {
        writer
            .next()
            .write_oid(&ObjectIdentifier::from_slice(&[1, 2, 840, 10045, 4, 3, 2]));
    });
}

fn write_time(writer: DERWriter<'_>, time: Timestamp) {
    let time = time.to_zoned(TimeZone::UTC);
    let (tag, form) = if time.year() < GENERALIZED_FROM {
        (TAG_UTCTIME, "%y%m%d%H%M%SZ")
    } else {
        (TAG_GENERALIZEDTIME, "%Y%m%d%H%M%SZ")
    };
    let text = time.strftime(form).to_string();
    writer.write_tagged_implicit(tag, |writer| writer.write_bytes(text.as_bytes()));
}

#[cfg(test)]
mod tests;
