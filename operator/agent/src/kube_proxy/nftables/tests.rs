use serde_json::json;

use super::*;

/// Written by kube-proxy 1.32.10, printed by nft 1.0.6: the Services `web` (with a NodePort; two endpoints) and `sticky`
/// (session affinity; one).
const LISTED: &str = include_str!("../testdata/nftables.json");

fn addresses(json: &str) -> Vec<String> {
    let found = routed(json.as_bytes()).expect("nft's JSON");
    found.iter().map(ToString::to_string).collect()
}

fn edited(edit: impl Fn(&mut Value)) -> String {
    let mut listed: Value = serde_json::from_str(LISTED).expect("JSON");
    edit(&mut listed["nftables"]);
    listed.to_string()
}

#[test]
fn endpoints_are_reached_through_maps_and_chains() {
    assert_eq!(addresses(LISTED), ["10.244.0.4", "127.0.1.1"]);
}

#[test]
fn a_service_without_a_map_element_sends_nowhere() {
    let empty = |name: &'static str| {
        move |parts: &mut Value| {
            for part in parts.as_array_mut().into_iter().flatten() {
                if part["map"]["name"] == name {
                    part["map"]["elem"] = json!([]);
                }
            }
        }
    };
    let by_node_port = edited(empty("service-ips"));
    assert_eq!(addresses(&by_node_port), ["10.244.0.4", "127.0.1.1"]);
    let by_nothing = edited(|parts| {
        empty("service-ips")(parts);
        empty("service-nodeports")(parts);
    });
    assert_eq!(addresses(&by_nothing), [""; 0], "the chains are still there");
}

#[test]
fn a_chain_that_no_service_goes_to_sends_nowhere() {
    let edited = edited(|parts| {
        for part in parts.as_array_mut().into_iter().flatten() {
            let chain = part["rule"]["chain"].as_str().unwrap_or_default();
            if chain.starts_with("service-") && chain.ends_with("default/web/tcp/http") {
                let text = part["rule"]["expr"].to_string();
                part["rule"]["expr"] = serde_json::from_str(&text.replace("127.0.1.1/8080", "gone")).expect("JSON");
            }
        }
    });
    assert!(edited.contains("\"addr\":\"127.0.1.1\""));
    assert_eq!(addresses(&edited), ["10.244.0.4"]);
}

#[test]
fn elements_with_comments_and_ipv6() {
    let text = json!({"nftables": [
        {"metainfo": {"version": "1.0.6"}},
        {"chain": {"family": "ip6", "table": "kube-proxy", "name": "nat-output", "type": "nat", "hook": "output"}},
        {"rule": {"chain": "nat-output", "expr": [{"vmap": {"key": {"meta": {"key": "l4proto"}}, "data": "@service-ips"}}]}},
        {"map": {"name": "service-ips", "map": "verdict", "elem": [
            [{"elem": {"val": {"concat": ["fd00:10:96::a", "tcp", 80]}, "comment": "a/b:c"}}, {"goto": {"target": "endpoint"}}],
        ]}},
        {"rule": {"chain": "endpoint", "expr": [{"dnat": {"family": "ip6", "addr": "fd00:10:244::3", "port": 8080}}]}},
    ]});
    assert_eq!(addresses(&text.to_string()), ["fd00:10:244::3"]);
}

#[test]
fn other_texts_are_errors() {
    for text in ["", "{}", "[]", &LISTED[..LISTED.len() / 2]] {
        assert!(routed(text.as_bytes()).is_err(), "{text}");
    }
}

/// `cargo test -p afloat-agent ten_thousand -- --nocapture` prints what it costs.
#[test]
fn ten_thousand_endpoints() {
    let mut parts = vec![
        json!({"chain": {"family": "ip", "table": "kube-proxy", "name": "nat-output", "handle": 1, "hook": "output"}}),
        json!({"rule": {"chain": "nat-output", "expr": [{"vmap": {"key": "x", "data": "@service-ips"}}]}}),
    ];
    let mut elements = Vec::new();
    for service in 0..1000_u32 {
        let chain = format!("service-SUSTUHLJ-namespace/service-{service}/tcp/http");
        elements.push(json!([{"concat": ["10.96.0.1", "tcp", service]}, {"goto": {"target": chain}}]));
        let endpoints = (0..10_u32).map(|number| {
            let address = format!("10.{}.{}.{}", 100 + number, service / 250, service % 250 + 1);
            (
                format!("endpoint-MKGAVGLF-namespace/service-{service}/tcp/http__{address}/8080"),
                address,
            )
        });
        let mut verdicts = Vec::new();
        for (number, (endpoint, address)) in endpoints.enumerate() {
            verdicts.push(json!([number, {"goto": {"target": endpoint}}]));
            parts.push(
                json!({"rule": {"family": "ip", "table": "kube-proxy", "chain": endpoint, "handle": 63, "expr": [
                {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": address}},
                {"jump": {"target": "mark-for-masquerade"}}]}}),
            );
            parts.push(
                json!({"rule": {"family": "ip", "table": "kube-proxy", "chain": endpoint, "handle": 64, "expr": [
                {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}},
                {"dnat": {"addr": address, "port": 8080}}]}}),
            );
        }
        parts.push(
            json!({"rule": {"family": "ip", "table": "kube-proxy", "chain": chain, "handle": 62, "expr": [
            {"vmap": {"key": {"numgen": {"mode": "random", "mod": 10, "offset": 0}}, "data": {"set": verdicts}}}]}}),
        );
    }
    parts.push(json!({"map": {"name": "service-ips", "map": "verdict", "elem": elements}}));
    let text = json!({"nftables": parts}).to_string();
    let began = std::time::Instant::now();
    let found = routed(text.as_bytes()).expect("JSON");
    eprintln!("{} bytes in {:?}", text.len(), began.elapsed());
    assert_eq!(found.len(), 10_000);
}
