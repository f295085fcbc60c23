//! Which addresses packets can be sent on to, by rules that jump from chain to chain.
//!
//! That a rule with an address is there proves nothing: kube-proxy leaves chains behind that nothing jumps to any more,
//! in large clusters for up to an hour.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The rules of one table, as far as they send packets somewhere.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chains(BTreeMap<String, Chain>);

#[derive(Debug, Default, PartialEq, Eq)]
struct Chain {
    jumps: Vec<String>,
    targets: Vec<IpAddr>,
}

impl Chains {
    /// A rule of a chain jumps to another one.
    pub fn jump(&mut self, from: &str, to: &str) {
        self.chain(from).jumps.push(to.to_owned());
    }

    /// A rule of a chain changes the destination to an address.
    pub fn send(&mut self, from: &str, to: IpAddr) {
        self.chain(from).targets.push(to);
    }

    /// Where packets can end up that begin in one of these chains.
    pub fn reached<'a>(&'a self, roots: impl IntoIterator<Item = &'a str>) -> BTreeSet<IpAddr> {
        let mut left: Vec<&str> = roots.into_iter().collect();
        let mut seen = BTreeSet::new();
        let mut found = BTreeSet::new();
        while let Some(name) = left.pop() {
            let Some(chain) = self.0.get(name).filter(|_| seen.insert(name)) else {
                continue;
            };
            found.extend(&chain.targets);
            left.extend(chain.jumps.iter().map(String::as_str));
        }
        found
    }

    fn chain(&mut self, name: &str) -> &mut Chain {
        self.0.entry(name.to_owned()).or_default()
    }
}
