//! Which address a pod gets. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The addresses of a node's pod network: the first is the gateway's, the last the broadcast address.
///
/// Free addresses are given out in turn, not lowest first: an address that was just given back rests as long as possible,
/// for clients that still believe in its former pod.
#[derive(Clone, Debug)]
pub(crate) struct AddressPool {
    first: u32,
    last: u32,
    gateway: u32,
    next: u32,
    used: BTreeSet<u32>,
}

impl AddressPool {
    pub(crate) fn new(gateway: Ipv4Addr, prefix: u8) -> Self {
        let gateway = u32::from(gateway);
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
        let network = gateway & mask;
        let (first, last) = (network.saturating_add(1), (network | !mask).saturating_sub(1));
        Self {
            first,
            last,
            gateway,
            next: first,
            used: BTreeSet::new(),
        }
    }

    /// The wish if it is free and in the network, else the next free one. None: all are in use.
    pub(crate) fn take(&mut self, wish: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let wish = wish.map(u32::from).filter(|ip| self.free(*ip));
        let ip = wish
            .or_else(|| self.free_from(self.next, self.last))
            .or_else(|| self.free_from(self.first, self.next))?;
        self.used.insert(ip);
        if wish.is_none() {
            self.next = ip.saturating_add(1);
        }
        Some(ip.into())
    }

    pub(crate) fn give_back(&mut self, ip: Ipv4Addr) {
        self.used.remove(&u32::from(ip));
    }

    fn free(&self, ip: u32) -> bool {
        (self.first..=self.last).contains(&ip) && ip != self.gateway && !self.used.contains(&ip)
    }

    fn free_from(&self, from: u32, to: u32) -> Option<u32> {
        (from..=to).find(|ip| self.free(*ip))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, 3, last)
    }

    #[test]
    fn honours_wishes_and_rests_returned_addresses() {
        let mut pool = AddressPool::new(ip(1), 24);
        assert_eq!(pool.take(None), Some(ip(2)));
        assert_eq!(pool.take(Some(ip(9))), Some(ip(9)));
        assert_eq!(pool.take(Some(ip(9))), Some(ip(3)));
        pool.give_back(ip(2));
        assert_eq!(pool.take(None), Some(ip(4)));
        assert_eq!(pool.take(Some(ip(1))), Some(ip(5)), "never the gateway");
        assert_eq!(
            pool.take(Some(Ipv4Addr::new(10, 244, 4, 7))),
            Some(ip(6)),
            "never of another node"
        );
    }

    #[test]
    fn comes_round_and_ends() {
        let mut pool = AddressPool::new(ip(1), 29);
        let taken: Vec<_> = std::iter::from_fn(|| pool.take(None)).collect();
        assert_eq!(taken, (2..=6).map(ip).collect::<Vec<_>>());
        pool.give_back(ip(4));
        assert_eq!(pool.take(None), Some(ip(4)));
        assert_eq!(pool.take(None), None);
    }

    proptest! {
        #[test]
        fn nobody_shares_an_address(steps in proptest::collection::vec((any::<bool>(), 0_u8..12), 0..80)) {
            let mut pool = AddressPool::new(ip(1), 28);
            let mut held: Vec<Ipv4Addr> = Vec::new();
            for (take, which) in steps {
                if take {
                    if let Some(got) = pool.take(Some(ip(which))) {
                        prop_assert!(!held.contains(&got) && got != ip(1));
                        held.push(got);
                    } else {
                        prop_assert_eq!(held.len(), 13);
                    }
                } else if !held.is_empty() {
                    pool.give_back(held.remove(usize::from(which) % held.len()));
                }
            }
        }
    }
}
