//! Time and randomness: what decisions get handed in.

use afloat_machinery::WriteContext;
use rand::Rng;

/// Time and randomness for one write.
pub(crate) fn context() -> WriteContext {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut rng = rand::rng();
    let suffix = (0..5)
        .filter_map(|_| ALPHABET.get(rng.random_range(0..ALPHABET.len())))
        .map(|&b| char::from(b))
        .collect();
    WriteContext {
        now: now(),
        uid: uuid::Uuid::new_v4().to_string(),
        suffix,
    }
}

/// Now, RFC 3339 with seconds, as Kubernetes writes times.
pub(crate) fn now() -> String {
    after(jiff::Timestamp::now(), 0)
}

/// A time some seconds later, in the same form.
pub(crate) fn after(time: jiff::Timestamp, seconds: i64) -> String {
    let later = time
        .checked_add(jiff::SignedDuration::from_secs(seconds))
        .unwrap_or(jiff::Timestamp::MAX);
    afloat_words::time::whole_seconds(later)
}
