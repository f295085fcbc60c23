//! Connections that go on through the node's rules, as the kernel's connection tracking lists them: in
//! `/proc/net/nf_conntrack`, or by `conntrack -L -o extended` where the kernel is built without that file. Both print the
//! same lines.
//!
//! A connection is that of the node that translated it: on the pod's own node it is seen, too, but with the pod as its first
//! destination already.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// The address whose connection a line tells of: established (UDP: answered more than once), and sent there by the node's
/// rules.
pub fn carried(line: &str) -> Option<IpAddr> {
    let mut words = line.split_ascii_whitespace();
    let protocol = words.nth(2)?;
    let (mut original, mut reply) = (None, None);
    let (mut established, mut assured) = (false, false);
    for word in words {
        match word.split_once('=') {
            // The answers' source is where the connection really goes.
            Some(("src", address)) if original.is_some() => reply = reply.or(Some(address)),
            Some(("dst", address)) => original = original.or(Some(address)),
            Some(_) => {}
            None => {
                established |= word == "ESTABLISHED";
                assured |= word == "[ASSURED]";
            }
        }
    }
    let goes_on = match protocol {
        "tcp" | "sctp" | "dccp" => established,
        "udp" | "udplite" => assured,
        _ => false,
    };
    let (original, reply) = (original?, reply?);
    (goes_on && original != reply).then(|| reply.parse().ok())?
}

/// Connections by where they go.
pub type Connections = BTreeMap<IpAddr, u64>;

#[cfg(test)]
mod tests {
    use super::*;

    fn count(text: &str) -> Connections {
        let mut all = Connections::new();
        for address in text.lines().filter_map(carried) {
            *all.entry(address).or_default() += 1;
        }
        all
    }

    #[test]
    fn established_and_translated() {
        // As the kernel and the tool print them; the tool's `-o extended` has the same columns.
        let text = "\
ipv4     2 tcp      6 431994 ESTABLISHED src=10.244.0.9 dst=10.96.0.10 sport=44724 dport=80 src=10.244.0.3 dst=10.244.0.9 sport=8080 dport=44724 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 431994 ESTABLISHED src=10.244.0.9 dst=10.96.0.10 sport=44726 dport=80 packets=4 bytes=216 src=10.244.0.3 dst=10.244.0.9 sport=8080 dport=44726 packets=3 bytes=164 [ASSURED] mark=0 zone=0 use=2
ipv4     2 tcp      6 119 TIME_WAIT src=10.244.0.9 dst=10.96.0.10 sport=44728 dport=80 src=10.244.0.3 dst=10.244.0.9 sport=8080 dport=44728 [ASSURED] mark=0 use=1
ipv4     2 tcp      6 118 SYN_SENT src=10.244.0.9 dst=10.96.0.10 sport=44730 dport=80 [UNREPLIED] src=10.244.0.3 dst=10.244.0.9 sport=8080 dport=44730 mark=0 use=1
ipv4     2 tcp      6 431999 ESTABLISHED src=10.244.0.1 dst=10.244.0.3 sport=51234 dport=8080 src=10.244.0.3 dst=10.244.0.1 sport=8080 dport=51234 [ASSURED] mark=0 use=1
ipv4     2 udp      17 28 src=10.244.0.9 dst=10.96.0.53 sport=5353 dport=53 src=10.244.0.4 dst=10.244.0.9 sport=53 dport=5353 mark=0 use=1
ipv4     2 udp      17 118 src=10.244.0.9 dst=10.96.0.53 sport=5354 dport=53 src=10.244.0.4 dst=10.244.0.9 sport=53 dport=5354 [ASSURED] mark=0 use=1
ipv4     2 unknown  2 597 src=10.0.0.1 dst=224.0.0.1 [UNREPLIED] src=224.0.0.1 dst=10.0.0.1 mark=0 use=1
ipv6     10 tcp      6 431997 ESTABLISHED src=fd00:0010:0244:0000:0000:0000:0000:0009 dst=fd00:0010:0096:0000:0000:0000:0000:000a sport=41234 dport=80 src=fd00:0010:0244:0000:0000:0000:0000:0003 dst=fd00:0010:0244:0000:0000:0000:0000:0009 sport=8080 dport=41234 [ASSURED] mark=0 zone=0 use=2
";
        let expected = [("10.244.0.3", 2), ("10.244.0.4", 1), ("fd00:10:244::3", 1)];
        let expected = expected.map(|(address, count)| (address.parse().expect("an address"), count));
        assert_eq!(count(text), Connections::from(expected));
    }

    #[test]
    fn other_texts_are_no_connections() {
        for text in [
            "",
            "conntrack v1.4.7 (conntrack-tools): 0 flow entries have been shown.",
            "a b tcp dst=x src=y",
        ] {
            assert_eq!(carried(text), None, "{text}");
        }
    }
}
