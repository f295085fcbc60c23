//! Texts that thousands of objects have in common: names, images, labels. Each is kept once.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

/// Texts that were seen, so that the next object with the same one need not have its own.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// By their hashes: a tree of the texts themselves would compare thousands that begin alike. Of two texts with one hash the
    /// later one is kept.
    texts: BTreeMap<u64, Arc<str>>,
    /// Number of texts at which those that nobody else has are thrown away.
    full: usize,
}

impl Pool {
    /// The pool's copy of a text.
    pub fn share(&mut self, text: &Arc<str>) -> Arc<str> {
        let hash = hash(text);
        if let Some(known) = self.texts.get(&hash)
            && known == text
        {
            return known.clone();
        }
        if self.texts.len() >= self.full {
            self.texts.retain(|_, text| Arc::strong_count(text) > 1);
            self.full = (2 * self.texts.len()).max(1024);
        }
        self.texts.insert(hash, text.clone());
        text.clone()
    }
}

/// The same in every process, as no seed is drawn.
fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one_and_unused_ones_go() {
        let mut pool = Pool::default();
        let kept = pool.share(&"web".into());
        assert!(Arc::ptr_eq(&kept, &pool.share(&"web".into())));
        for number in 0..9000 {
            pool.share(&number.to_string().into());
        }
        assert!(pool.texts.len() < 4096, "{}", pool.texts.len());
        assert!(Arc::ptr_eq(&kept, &pool.share(&"web".into())));
    }
}
