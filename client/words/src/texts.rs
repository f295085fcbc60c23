//! Texts that thousands of objects have in common: names, images, labels. Each is kept once.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Texts that were seen, so that the next object with the same one need not have its own.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    texts: BTreeSet<Arc<str>>,
    /// Number of texts at which those that nobody else has are thrown away.
    full: usize,
}

impl Pool {
    /// The pool's copy of a text.
    pub fn share(&mut self, text: &Arc<str>) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        if self.texts.len() >= self.full {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            self.full = (2 * self.texts.len()).max(1024);
        }
        self.texts.insert(text.clone());
        text.clone()
    }
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
