//! Ends of names that nothing else tells apart.

/// Five characters at a time out of a seed (splitmix64), in Kubernetes' alphabet for generated names.
pub(crate) struct Ids {
    state: u64,
}

impl Ids {
    /// Out of that seed.
    pub(crate) fn of(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next five.
    pub(crate) fn next(&mut self) -> String {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (0..5)
            .map(|_| {
                let digit = usize::try_from(mixed % 27).unwrap_or(0);
                mixed /= 27;
                char::from(ALPHABET[digit])
            })
            .collect()
    }
}
