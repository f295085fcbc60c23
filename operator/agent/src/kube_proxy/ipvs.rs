//! Mode `ipvs`: what the kernel says in `/proc/net/ip_vs`, IPv4 and IPv6 in one.
//!
//! kube-proxy gives a server that leaves the weight 0 while it still has connections: no new ones are sent to it. See
//! kubernetes pkg/proxy/ipvs/graceful_termination.go.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The addresses that new connections may be sent to; None if the text does not begin as the kernel's does, or there is no
/// service at all: kube-proxy always has one, that of the API server.
pub fn routed(text: &str) -> Option<BTreeSet<IpAddr>> {
    let mut lines = text.lines();
    lines.next().filter(|line| line.starts_with("IP Virtual Server"))?;
    let service = |line: &str| {
        ["TCP ", "UDP ", "SCTP "]
            .iter()
            .any(|protocol| line.starts_with(protocol))
    };
    let mut services = false;
    let mut found = BTreeSet::new();
    for line in lines {
        services |= service(line);
        if let Some(server) = line.trim_start().strip_prefix("-> ") {
            found.extend(weighted(server));
        }
    }
    services.then_some(found)
}

/// `0AF40003:0050      Masq    1      0          0`, unless the weight is 0. The heading has no address.
fn weighted(server: &str) -> Option<IpAddr> {
    let mut words = server.split_whitespace();
    let address = words.next()?;
    let weight: u32 = words.nth(1)?.parse().ok()?;
    if weight == 0 {
        return None;
    }
    let (address, _port) = address.rsplit_once(':')?;
    match address.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => u32::from_str_radix(address, 16)
            .ok()
            .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr
  -> C0A80002:192B      Masq    1      3          0
TCP  0A60000A:0050 rr persistent 10800
  -> 0AF40004:1F90      Masq    0      1          0
  -> 0AF40003:1F90      Masq    1      0          2
UDP  0A60000A:0035 rr
TCP  [fd00:0010:0096:0000:0000:0000:0000:000a]:0050 rr
  -> [fd00:0010:0244:0000:0000:0000:0000:0003]:1F90      Masq    1      0          0
";

    #[test]
    fn servers_of_weight_zero_get_nothing_new() {
        let expected = ["192.168.0.2", "10.244.0.3", "fd00:10:244::3"];
        let expected: BTreeSet<IpAddr> = expected.iter().map(|text| text.parse().expect("an address")).collect();
        assert_eq!(routed(TEXT), Some(expected));
    }

    #[test]
    fn no_service_is_not_known() {
        let heading: String = TEXT.lines().take(3).map(|line| format!("{line}\n")).collect();
        assert_eq!(routed(&heading), None);
        assert_eq!(routed(""), None);
    }
}
