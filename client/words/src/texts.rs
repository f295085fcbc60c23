//! Texts that thousands of objects have in common: names, images, labels. Each is kept once.

use std::any::Any;
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
    /// Larger values, in the same way.
    values: BTreeMap<u64, Arc<dyn Any + Send + Sync>>,
    values_full: usize,
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

impl Pool {
    /// The pool's copy of a value, which is found under some texts in it. Those of different values should differ: of two values
    /// with the same ones only the later is kept.
    pub fn share_value<'t, T>(&mut self, texts: impl Iterator<Item = &'t str>, value: &Arc<T>) -> Arc<T>
    where
        T: PartialEq + Send + Sync + 'static,
    {
        let mut hasher = DefaultHasher::new();
        texts.for_each(|text| hasher.write(text.as_bytes()));
        let hash = hasher.finish();
        let known = self
            .values
            .get(&hash)
            .and_then(|known| known.clone().downcast::<T>().ok());
        if let Some(known) = known.filter(|known| known == value) {
            return known;
        }
        if self.values.len() >= self.values_full {
            self.values.retain(|_, value| Arc::strong_count(value) > 1);
            self.values_full = (2 * self.values.len()).max(256);
        }
        self.values.insert(hash, value.clone());
        value.clone()
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
    fn equal_values_are_one_and_unused_ones_go() {
        let mut pool = Pool::default();
        let mut share = |text: &str, value: Vec<u8>| pool.share_value([text].into_iter(), &Arc::new(value));
        let kept = share("a", vec![1]);
        assert!(Arc::ptr_eq(&kept, &share("a", vec![1])));
        assert_eq!(*share("a", vec![2]), [2], "another value of the same texts");
        for number in 0..3000 {
            share(&number.to_string(), vec![3]);
        }
        assert!(pool.values.len() < 1024, "{}", pool.values.len());
    }

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
