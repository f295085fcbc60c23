use rcgen::{CertificateParams, DnType, SanType};

use super::*;
use crate::{authority, client};

fn now() -> Timestamp {
    "2026-01-10T12:00:00Z".parse().unwrap()
}

fn asked(organizations: &[&str], names: Vec<SanType>) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "anna");
    for organization in organizations {
        params.distinguished_name.push(DnType::OrganizationName, *organization);
    }
    params.subject_alt_names = names;
    params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap()
}

fn signed(request: &str, authority: &Pair, lifetime: SignedDuration) -> Result<String, String> {
    let usages = ["digital signature", "key encipherment", "client auth"].map(str::to_owned);
    let terms = Terms {
        usages: &usages,
        lifetime,
        serial: [0x80; 16],
    };
    Request::read(request.as_bytes())?.sign(authority, terms, now())
}

#[test]
fn a_certificate_is_what_was_asked_for_on_our_terms() {
    let ca = authority("ours", now()).unwrap();
    let names = vec![
        SanType::DnsName("host.example".try_into().unwrap()),
        SanType::IpAddress("10.0.0.1".parse().unwrap()),
        SanType::IpAddress("fd00::1".parse().unwrap()),
        SanType::Rfc822Name("anna@host.example".try_into().unwrap()),
        SanType::URI("https://host.example/".try_into().unwrap()),
    ];
    let request = asked(&["ops"], names);
    let read = Request::read(request.as_bytes()).unwrap();
    assert_eq!(
        (read.common_name.as_str(), read.organizations.as_slice()),
        ("anna", &["ops".to_owned()][..])
    );
    let pem = signed(&request, &ca, SignedDuration::from_hours(24)).unwrap();
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(client(&der), Some(("anna".into(), vec!["ops".into()])));
    let (rest, parsed) = X509Certificate::from_der(&der).unwrap();
    assert!(rest.is_empty());
    let ca = CertificateDer::from_pem_slice(ca.certificate.as_bytes()).unwrap();
    let (_, ca) = X509Certificate::from_der(&ca).unwrap();
    parsed.verify_signature(Some(ca.public_key())).unwrap();
    assert_eq!(parsed.issuer(), ca.subject());
    assert_eq!(parsed.raw_serial().len(), 17, "a number is positive");
    let times = (
        parsed.validity().not_before.timestamp(),
        parsed.validity().not_after.timestamp(),
    );
    assert_eq!(times, (now().as_second() - 300, now().as_second() + 24 * 3600 - 300));
    let usage = parsed.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.key_encipherment());
    assert!(!usage.value.key_cert_sign());
    let extended = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth);
    let basic = parsed.basic_constraints().unwrap().unwrap();
    assert!(basic.critical && !basic.value.ca);
    let found = parsed.subject_alternative_name().unwrap().unwrap();
    assert!(!found.critical && found.value.general_names.len() == 5);
}

#[test]
fn short_ones_end_as_asked_and_none_later_than_its_authority() {
    let ca = authority("ours", now()).unwrap();
    let ends = |lifetime| {
        let pem = signed(&asked(&[], vec![]), &ca, lifetime).unwrap();
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        parsed.validity().not_after.timestamp() - now().as_second()
    };
    assert_eq!(ends(SignedDuration::from_mins(10)), 600);
    let authority_ends = ends(SignedDuration::from_hours(24 * 365 * 100));
    let day = 24 * 3600;
    assert!((3650 * day..3653 * day).contains(&authority_ends), "{authority_ends}");
    let late = now().saturating_add(SignedDuration::from_hours(24 * 365 * 11)).unwrap();
    let terms = Terms {
        usages: &[],
        lifetime: SHORT,
        serial: [1; 16],
    };
    let request = Request::read(asked(&[], vec![]).as_bytes()).unwrap();
    assert!(request.sign(&ca, terms, late).unwrap_err().contains("expired"));
}

#[test]
fn what_is_no_request_is_told() {
    let ca = authority("ours", now()).unwrap();
    let no_block = "PEM block type must be CERTIFICATE REQUEST";
    for (text, why) in [
        ("", no_block),
        ("x", no_block),
        (ca.certificate.as_str(), no_block),
        (
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
            "asn1: structure error",
        ),
    ] {
        let told = Request::read(text.as_bytes()).unwrap_err();
        assert!(told.starts_with(why), "{told}");
    }
    // Another name than the one that was signed.
    let request = asked(&["ops"], vec![]);
    let (_, block) = parse_x509_pem(request.as_bytes()).unwrap();
    let mut der = block.contents;
    let at = der.windows(4).position(|part| part == b"anna").unwrap();
    der[at] = b'b';
    let forged = pem("CERTIFICATE REQUEST", &der);
    assert_eq!(
        Request::read(forged.as_bytes()),
        Err("x509: ECDSA verification failure".into())
    );
    let usages = ["cert sign".to_owned()];
    let terms = Terms {
        usages: &usages,
        lifetime: SHORT,
        serial: [1; 16],
    };
    let told = Request::read(request.as_bytes()).unwrap().sign(&ca, terms, now());
    assert_eq!(told, Err("unrecognized usage: \"cert sign\"".into()));
}
