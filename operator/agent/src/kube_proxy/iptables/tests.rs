use super::*;

/// Written by kube-proxy 1.32.10, printed by iptables-save 1.8.9: the Services `web` (with a NodePort; two endpoints) and
/// `sticky` (session affinity; one).
const SAVED: &str = include_str!("../testdata/iptables.txt");

fn routed(text: &str) -> Option<Vec<String>> {
    let mut table = Table::default();
    text.lines().for_each(|line| table.line(line));
    let addresses = table.routed()?;
    Some(addresses.iter().map(ToString::to_string).collect())
}

fn without(text: &str, rule: impl Fn(&str) -> bool) -> String {
    text.lines()
        .filter(|line| !rule(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

fn some(addresses: &[&str]) -> Option<Vec<String>> {
    Some(addresses.iter().map(|&address| address.to_owned()).collect())
}

#[test]
fn endpoints_are_reached_through_their_services() {
    assert_eq!(routed(SAVED), some(&["10.244.0.4", "127.0.1.1"]));
}

#[test]
fn a_chain_that_nothing_jumps_to_sends_nowhere() {
    let to_local = "-j KUBE-SEP-BDEYHNPTA4L6X5LM";
    let stale = without(SAVED, |line| line.ends_with(to_local));
    assert!(stale.contains("--to-destination 127.0.1.1:8080"));
    assert_eq!(routed(&stale), some(&["10.244.0.4"]));
}

#[test]
fn an_endpoint_stays_as_long_as_any_service_has_it() {
    let by_web = without(SAVED, |line| line.contains("default/web:http -> 10.244.0.4"));
    assert_eq!(routed(&by_web), some(&["10.244.0.4", "127.0.1.1"]));
    let by_nobody = without(&by_web, |line| line.contains("-j KUBE-SVC-BJWR5DPVIKTHVKZU"));
    assert_eq!(routed(&by_nobody), some(&["127.0.1.1"]));
}

#[test]
fn a_node_port_alone_counts() {
    let no_cluster_ip = without(SAVED, |line| line.contains("default/web:http cluster IP"));
    assert_eq!(routed(&no_cluster_ip), some(&["10.244.0.4", "127.0.1.1"]));
    let neither = without(&no_cluster_ip, |line| line.ends_with("-j KUBE-NODEPORTS"));
    assert_eq!(routed(&neither), some(&["10.244.0.4"]), "by the other Service");
}

#[test]
fn ipv6() {
    let text = "\
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A KUBE-SERVICES -d fd00:10:96::a/128 -p tcp -m comment --comment \"a/b:c cluster IP\" -m tcp --dport 80 -j KUBE-SVC-A
-A KUBE-SVC-A -m comment --comment \"a/b:c -> [fd00:10:244::3]:8080\" -j KUBE-SEP-A
-A KUBE-SEP-A -p tcp -m comment --comment \"a/b:c\" -m tcp -j DNAT --to-destination [fd00:10:244::3]:8080
COMMIT
";
    assert_eq!(routed(text), some(&["fd00:10:244::3"]));
}

#[test]
fn comments_are_no_rules() {
    let commented = SAVED.replace(
        "--comment \"default/web:http -> 127.0.1.1:8080\" -j KUBE-SEP-BDEYHNPTA4L6X5LM",
        "--comment \"say \\\" -j KUBE-SEP-BDEYHNPTA4L6X5LM\" -j RETURN",
    );
    assert_ne!(commented, SAVED);
    assert_eq!(routed(&commented), some(&["10.244.0.4"]));
}

#[test]
fn what_is_not_kube_proxys_or_is_cut_off_is_not_known() {
    assert_eq!(routed(""), None);
    assert_eq!(routed("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n"), None);
    assert_eq!(routed(&without(SAVED, |line| line == "COMMIT")), None);
    let by_set = "-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT\nCOMMIT";
    assert_eq!(routed(&SAVED.replace("COMMIT", by_set)), None, "mode ipvs");
}

/// `cargo test -p afloat-agent ten_thousand -- --nocapture` prints what it costs.
#[test]
fn ten_thousand_endpoints() {
    use std::fmt::Write as _;
    let mut text = String::from("*nat\n:KUBE-SERVICES - [0:0]\n-A OUTPUT -j KUBE-SERVICES\n");
    for number in 0..10_000_u32 {
        let (service, high, low) = (number / 10, number / 250, number % 250 + 1);
        let name = format!("namespace-{}/service-{service}:http", service % 20);
        if number % 10 == 0 {
            let _ = writeln!(
                text,
                "-A KUBE-SERVICES -d 10.96.{}.{}/32 -p tcp -m comment --comment \"{name} cluster IP\" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG{service:07}",
                service / 250,
                service % 250
            );
        }
        let _ = writeln!(
            text,
            "-A KUBE-SVC-CDGGSHYLG{service:07} -m comment --comment \"{name} -> 10.244.{high}.{low}:8080\" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-BDEYHNPTA{number:07}"
        );
        let _ = writeln!(
            text,
            "-A KUBE-SEP-BDEYHNPTA{number:07} -s 10.244.{high}.{low}/32 -m comment --comment \"{name}\" -j KUBE-MARK-MASQ"
        );
        let _ = writeln!(
            text,
            "-A KUBE-SEP-BDEYHNPTA{number:07} -p tcp -m comment --comment \"{name}\" -m tcp -j DNAT --to-destination 10.244.{high}.{low}:8080"
        );
    }
    text.push_str("COMMIT\n");
    let began = std::time::Instant::now();
    let found = routed(&text).expect("kube-proxy's");
    eprintln!("{} bytes in {:?}", text.len(), began.elapsed());
    assert_eq!(found.len(), 10_000);
}
