//! Mode `iptables`: what `iptables-save -t nat` (for IPv6 `ip6tables-save`) prints.
//!
//! kube-proxy hangs everything below KUBE-SERVICES, which PREROUTING and OUTPUT jump to:
//! KUBE-SERVICES → KUBE-SVC-… (or KUBE-EXT-…, KUBE-FW-…, KUBE-SVL-…) → KUBE-SEP-… → DNAT. See kubernetes
//! pkg/proxy/iptables/proxier.go.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::chains::Chains;

/// The chain that everything of kube-proxy's hangs below.
const ROOT: &str = "KUBE-SERVICES";
/// Where packets come into the table: from the network, and from this machine.
const ENTRIES: [&str; 2] = ["PREROUTING", "OUTPUT"];

/// The table, read line by line.
#[derive(Debug, Default)]
pub struct Table {
    chains: Chains,
    root: bool,
    /// Mode `ipvs` has a chain of the root's name, too, which looks services up in sets instead.
    sets: bool,
    complete: bool,
}

impl Table {
    /// Takes the next line in.
    pub fn line(&mut self, line: &str) {
        if line == "COMMIT" {
            self.complete = true;
        } else if let Some(chain) = line.strip_prefix(':') {
            self.root |= chain.split(' ').next() == Some(ROOT);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            self.rule(rule);
        }
    }

    fn rule(&mut self, rule: &str) {
        let mut words = Words(rule);
        let Some(chain) = words.next() else { return };
        let (mut target, mut destination) = (None, None);
        while let Some(word) = words.next() {
            match word {
                "-j" | "-g" => target = words.next(),
                "--to-destination" => destination = words.next(),
                "--match-set" => self.sets |= words.next().is_some_and(|set| set.starts_with("KUBE-")),
                _ => {}
            }
        }
        match (target, destination) {
            (Some("DNAT"), Some(destination)) => {
                if let Some(address) = address(destination) {
                    self.chains.send(chain, address);
                }
            }
            (Some(target), _) => self.chains.jump(chain, target),
            (None, _) => {}
        }
    }

    /// The addresses that new connections may be sent to; None if kube-proxy has no rules here, or not all were seen.
    pub fn routed(&self) -> Option<BTreeSet<IpAddr>> {
        (self.root && self.complete && !self.sets).then(|| self.chains.reached(ENTRIES))
    }
}

/// `10.0.0.1:80`, `[fd00::1]:80`, or an address alone.
fn address(text: &str) -> Option<IpAddr> {
    match text.parse::<SocketAddr>() {
        Ok(address) => Some(address.ip()),
        Err(_) => text.trim_matches(['[', ']']).parse().ok(),
    }
}

/// Words of a rule; what is in quotes is one, as comments are.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start_matches(' ');
        if text.is_empty() {
            return None;
        }
        let Some(quoted) = text.strip_prefix('"') else {
            let end = text.find(' ').unwrap_or(text.len());
            self.0 = &text[end..];
            return Some(&text[..end]);
        };
        let mut escaped = false;
        let end = quoted.find(|letter| {
            let ends = letter == '"' && !escaped;
            escaped = letter == '\\' && !escaped;
            ends
        });
        let end = end.unwrap_or(quoted.len());
        self.0 = quoted.get(end + 1..).unwrap_or_default();
        Some(&quoted[..end])
    }
}

#[cfg(test)]
mod tests;
