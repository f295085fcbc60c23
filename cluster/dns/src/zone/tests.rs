//! Situations and answers, one table per rule of the specification.

use std::collections::BTreeMap;

use afloat_words::key::Key;
use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use serde_json::{Value, json};

use crate::reply::{self, Step};
use crate::view;
use crate::zone::{Change, Zone};

fn service(name: &str, spec: Value) -> Change {
    let object =
        serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": name}, "spec": spec})).unwrap();
    Change::Service(Key::new("shop", name), view::service(&object))
}

fn slice(service: &str, ports: Value, endpoints: Value) -> Change {
    let object = serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": format!("{service}-x"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    }))
    .unwrap();
    Change::Slice(Key::new("shop", format!("{service}-x")), view::slice(&object))
}

pub(crate) fn zone() -> Zone {
    let mut zone = Zone::new(
        Name::from_ascii("cluster.local.").unwrap(),
        [10, 96, 0, 10].into(),
        vec![([10, 96, 0, 0].into(), 16), ([10, 244, 0, 0].into(), 16)],
    );
    zone.see(Change::Services(BTreeMap::new()));
    zone.see(Change::Slices(BTreeMap::new()));
    zone.see(Change::Namespaces(["shop".to_owned()].into()));
    let http = json!([{"name": "http", "port": 80, "targetPort": 8080}, {"port": 9, "protocol": "UDP"}]);
    zone.see(service("web", json!({"clusterIP": "10.96.7.7", "ports": http})));
    zone.see(service("db", json!({"clusterIP": "None"})));
    zone.see(slice(
        "db",
        json!([{"name": "sql", "port": 5432, "protocol": "TCP"}]),
        json!([
            {"addresses": ["10.244.1.5"], "hostname": "db-0"},
            {"addresses": ["10.244.2.6"], "conditions": {"ready": true}},
            {"addresses": ["10.244.2.7"], "hostname": "db-2", "conditions": {"ready": false}},
        ]),
    ));
    zone.see(service("none", json!({"clusterIP": "None"})));
    let external = |target: &str| json!({"type": "ExternalName", "externalName": target});
    zone.see(service("away", external("example.com")));
    zone.see(service("near", external("web.shop.svc.cluster.local")));
    zone.see(service("loop", external("loop.shop.svc.cluster.local")));
    zone
}

fn request(name: &str, kind: RecordType) -> Message {
    let mut request = Message::query();
    request.metadata.recursion_desired = true;
    request.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    request
}

/// Code and records as text, without time to live; `→ NAME`: to be asked elsewhere.
fn ask(zone: &Zone, name: &str, kind: RecordType) -> String {
    let bytes = request(name, kind).to_vec().unwrap();
    let (answer, rest) = match reply::step(Some(zone), &bytes, 0) {
        Step::Send(answer) => (answer, String::new()),
        Step::Forward(answer, query) => (answer, format!("→ {}", query.name())),
        Step::Ignore => return "ignored".to_owned(),
    };
    let code = match answer.metadata.response_code {
        ResponseCode::NoError if answer.answers.is_empty() && rest.is_empty() => {
            assert_eq!(answer.authorities[0].record_type(), RecordType::SOA, "{name}");
            "nodata"
        }
        ResponseCode::NoError => "",
        ResponseCode::NXDomain => {
            assert_eq!(answer.authorities[0].record_type(), RecordType::SOA, "{name}");
            "nxdomain"
        }
        ResponseCode::ServFail => "servfail",
        _ => "?",
    };
    let data = answer.answers.iter().map(|record| record.data.to_string());
    let words: Vec<String> = [code.to_owned()].into_iter().chain(data).chain([rest]).collect();
    words.join(" ").trim().to_owned()
}

#[test]
fn names_mean_what_the_specification_says() {
    use RecordType::{A, AAAA, CNAME, NS, PTR, SRV, TXT};
    let zone = zone();
    let cases = [
        // 2.1 and the apex
        ("dns-version.cluster.local.", TXT, "1.1.0"),
        ("cluster.local.", NS, "ns.dns.cluster.local."),
        ("ns.dns.cluster.local.", A, "10.96.0.10"),
        ("svc.cluster.local.", A, "nodata"),
        ("nope.cluster.local.", A, "nxdomain"),
        // 2.3: with an address of its own
        ("web.shop.svc.cluster.local.", A, "10.96.7.7"),
        ("WEB.Shop.SVC.cluster.LOCAL.", A, "10.96.7.7"),
        ("web.shop.svc.cluster.local.", AAAA, "nodata"),
        (
            "_http._tcp.web.shop.svc.cluster.local.",
            SRV,
            "0 100 80 web.shop.svc.cluster.local.",
        ),
        ("_http._tcp.web.shop.svc.cluster.local.", A, "nodata"),
        ("_http._udp.web.shop.svc.cluster.local.", SRV, "nxdomain"),
        ("_tcp.web.shop.svc.cluster.local.", SRV, "nodata"),
        ("_udp.web.shop.svc.cluster.local.", SRV, "nxdomain"),
        ("7.7.96.10.in-addr.arpa.", PTR, "web.shop.svc.cluster.local."),
        ("8.7.96.10.in-addr.arpa.", PTR, "nxdomain"),
        ("1.1.1.1.in-addr.arpa.", PTR, "→ 1.1.1.1.in-addr.arpa."),
        // 2.4: headless
        ("db.shop.svc.cluster.local.", A, "10.244.1.5 10.244.2.6"),
        ("db-0.db.shop.svc.cluster.local.", A, "10.244.1.5"),
        ("10-244-2-6.db.shop.svc.cluster.local.", A, "10.244.2.6"),
        ("db-2.db.shop.svc.cluster.local.", A, "nxdomain"),
        (
            "_sql._tcp.db.shop.svc.cluster.local.",
            SRV,
            "0 50 5432 db-0.db.shop.svc.cluster.local. 0 50 5432 10-244-2-6.db.shop.svc.cluster.local.",
        ),
        ("5.1.244.10.in-addr.arpa.", PTR, "db-0.db.shop.svc.cluster.local."),
        ("none.shop.svc.cluster.local.", A, "nxdomain"),
        // 2.5: ExternalName
        ("away.shop.svc.cluster.local.", CNAME, "example.com."),
        ("away.shop.svc.cluster.local.", A, "example.com. → example.com."),
        (
            "near.shop.svc.cluster.local.",
            A,
            "web.shop.svc.cluster.local. 10.96.7.7",
        ),
        // Namespaces and pods
        ("shop.svc.cluster.local.", A, "nodata"),
        ("none.svc.cluster.local.", A, "nxdomain"),
        ("10-244-1-9.shop.pod.cluster.local.", A, "10.244.1.9"),
        ("10-244-1-9.none.pod.cluster.local.", A, "nxdomain"),
        ("10-244-1.shop.pod.cluster.local.", A, "nxdomain"),
        // Everything else
        ("example.com.", A, "→ example.com."),
        ("web.shop.svc.", A, "→ web.shop.svc."),
    ];
    for (name, kind, expected) in cases {
        assert_eq!(ask(&zone, name, kind), expected, "{name} {kind}");
    }
    assert!(ask(&zone, "loop.shop.svc.cluster.local.", A).starts_with("servfail"));
}

#[test]
fn what_is_gone_has_no_name_any_more() {
    let mut zone = zone();
    zone.see(slice("db", json!([]), json!([{"addresses": ["10.244.9.9"]}])));
    assert_eq!(ask(&zone, "db.shop.svc.cluster.local.", RecordType::A), "10.244.9.9");
    zone.see(Change::Slice(Key::new("shop", "db-x"), None));
    assert_eq!(ask(&zone, "db.shop.svc.cluster.local.", RecordType::A), "nxdomain");
    zone.see(Change::Service(Key::new("shop", "web"), None));
    assert_eq!(ask(&zone, "web.shop.svc.cluster.local.", RecordType::A), "nxdomain");
}

#[test]
fn nothing_is_denied_before_everything_was_listed() {
    let mut zone = Zone::new(
        Name::from_ascii("cluster.local.").unwrap(),
        [10, 96, 0, 10].into(),
        vec![],
    );
    zone.see(Change::Services(BTreeMap::new()));
    assert_eq!(ask(&zone, "web.shop.svc.cluster.local.", RecordType::A), "servfail");
    assert_eq!(ask(&zone, "example.com.", RecordType::A), "→ example.com.");
}

#[test]
fn addresses_take_turns_and_long_answers_are_cut() {
    let mut zone = zone();
    let many: Vec<Value> = (1..=100)
        .map(|n| json!({"addresses": [format!("10.244.3.{n}")]}))
        .collect();
    zone.see(slice("db", json!([]), json!(many)));
    let first = |turn| {
        let bytes = request("db.shop.svc.cluster.local.", RecordType::A).to_vec().unwrap();
        match reply::step(Some(&zone), &bytes, turn) {
            Step::Send(answer) => answer,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(first(0).answers[0].data.to_string(), "10.244.3.1");
    assert_eq!(first(41).answers[0].data.to_string(), "10.244.3.42");
    let answer = first(0);
    assert_eq!(answer.answers.len(), 100);
    for (limit, cut) in [(512, true), (1232, true), (reply::STREAM_MAX, false)] {
        let bytes = reply::encode(&answer, limit).unwrap();
        assert!(bytes.len() <= limit);
        let read = Message::from_vec(&bytes).unwrap();
        assert_eq!(read.metadata.truncation, cut, "{limit}");
        assert!(!read.answers.is_empty());
    }
}

#[test]
fn odd_requests_are_told_so_or_ignored() {
    let zone = zone();
    let step = |bytes: &[u8]| match reply::step(Some(&zone), bytes, 0) {
        Step::Ignore => "ignored".to_owned(),
        Step::Send(answer) => format!("{:?}", answer.metadata.response_code),
        Step::Forward(..) => "forward".to_owned(),
    };
    assert_eq!(step(b""), "ignored");
    assert_eq!(step(&[0; 11]), "ignored");
    assert_eq!(step(&[0xff; 40]), "ignored");
    assert_eq!(step(&[0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x3f]), "FormErr");
    let two = request("a.b.", RecordType::A);
    let mut twice = two.clone();
    twice.add_query(two.queries[0].clone());
    assert_eq!(step(&twice.to_vec().unwrap()), "FormErr");
    assert_eq!(step(&two.into_response().to_vec().unwrap()), "ignored");
    assert_eq!(
        step(&request("cluster.local.", RecordType::AXFR).to_vec().unwrap()),
        "Refused"
    );
    // A client that speaks EDNS is answered in EDNS, and in longer datagrams.
    let mut modern = request("web.shop.svc.cluster.local.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    modern.set_edns(edns);
    let bytes = modern.to_vec().unwrap();
    assert_eq!(reply::datagram_limit(&bytes), 1232);
    assert!(matches!(reply::step(Some(&zone), &bytes, 0), Step::Send(answer) if answer.edns.is_some()));
    assert_eq!(reply::datagram_limit(b"?"), 512);
}

#[test]
fn only_the_question_s_own_answer_counts() {
    let asked = request("example.com.", RecordType::A);
    let mut right = asked.clone().into_response();
    assert!(reply::answers(&asked, &right));
    right.metadata.id = right.metadata.id.wrapping_add(1);
    assert!(!reply::answers(&asked, &right));
    let other = request("example.org.", RecordType::A).into_response();
    assert!(!reply::answers(&asked, &other));
    let failed = reply::complete(asked.into_response(), None);
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
}
