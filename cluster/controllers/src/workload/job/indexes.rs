//! Sets of completion indexes, and the text in which a Job's status has them: "1,3-5,7".

use std::fmt;

/// A set of indexes as intervals: in order, apart, first and last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(Vec<(usize, usize)>);

impl Indexes {
    /// Reads the text; what is beyond `completions` (the Job was made smaller) or cannot be read is left out.
    pub(super) fn parse(text: &str, completions: usize) -> Self {
        let read = |interval: &str| {
            let (first, last) = interval.split_once('-').unwrap_or((interval, interval));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            let last = completions.checked_sub(1)?.min(last);
            (first <= last).then_some((first, last))
        };
        text.split(',')
            .filter_map(read)
            .fold(Self::default(), |mut all, (first, last)| {
                all.insert(first, last);
                all
            })
    }

    /// Adds all from `first` to `last`.
    fn insert(&mut self, first: usize, last: usize) {
        let touches = |&(from, to): &(usize, usize)| from <= last.saturating_add(1) && first <= to.saturating_add(1);
        let start = self.0.iter().position(touches);
        let Some(start) = start else {
            let at = self.0.partition_point(|(from, _)| *from < first);
            self.0.insert(at, (first, last));
            return;
        };
        let end = start + self.0[start..].iter().take_while(|interval| touches(interval)).count();
        let merged = (self.0[start].0.min(first), self.0[end - 1].1.max(last));
        self.0.splice(start..end, [merged]);
    }

    pub(super) fn add(&mut self, index: usize) {
        self.insert(index, index);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (first, last) in &other.0 {
            self.insert(*first, *last);
        }
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many there are.
    pub(super) fn total(&self) -> usize {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many are in both.
    pub(super) fn common(&self, other: &Self) -> usize {
        let with = |(first, last): &(usize, usize)| {
            let in_other = other
                .0
                .iter()
                .map(|(from, to)| (to.min(last) + 1).saturating_sub(*from.max(first)));
            in_other.sum::<usize>()
        };
        self.0.iter().map(with).sum()
    }

    /// The first `count` that are below `completions` and not in it.
    pub(super) fn missing(&self, count: usize, completions: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let mut from = 0;
        let ends = self.0.iter().copied().chain([(completions, completions)]);
        for (first, last) in ends {
            found.extend((from..first.min(completions)).take(count - found.len()));
            from = last + 1;
        }
        found
    }
}

impl FromIterator<usize> for Indexes {
    fn from_iter<I: IntoIterator<Item = usize>>(indexes: I) -> Self {
        let mut all = Self::default();
        indexes.into_iter().for_each(|index| all.add(index));
        all
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                1 => write!(f, "{comma}{first},{last}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_kubernetes_own() {
        for (indexes, text) in [
            (vec![], ""),
            (vec![0], "0"),
            (vec![1, 2], "1,2"),
            (vec![5, 3, 4, 1, 7], "1,3-5,7"),
            (vec![0, 1, 2, 9, 10], "0-2,9,10"),
        ] {
            let set: Indexes = indexes.into_iter().collect();
            assert_eq!(set.to_string(), text);
            assert_eq!(Indexes::parse(text, 100), set, "{text}");
        }
        assert_eq!(Indexes::parse("0-5,x,8-", 3).to_string(), "0-2");
        assert_eq!(Indexes::parse("0", 0), Indexes::default());
    }

    proptest! {
        #[test]
        fn it_is_a_set(indexes in proptest::collection::vec(0..40_usize, 0..30), others in proptest::collection::vec(0..40_usize, 0..30), count in 0..20_usize) {
            let (set, other): (Indexes, Indexes) = (indexes.iter().copied().collect(), others.iter().copied().collect());
            let (wanted, wanted_other): (BTreeSet<usize>, BTreeSet<usize>) = (indexes.into_iter().collect(), others.into_iter().collect());
            prop_assert_eq!(set.total(), wanted.len());
            prop_assert_eq!(&Indexes::parse(&set.to_string(), 40), &set);
            prop_assert_eq!(set.common(&other), wanted.intersection(&wanted_other).count());
            prop_assert!((0..45).all(|index| set.contains(index) == wanted.contains(&index)));
            let missing: Vec<usize> = (0..40).filter(|index| !wanted.contains(index)).take(count).collect();
            prop_assert_eq!(set.missing(count, 40), missing);
            let mut both = set;
            both.merge(&other);
            prop_assert_eq!(both, wanted.union(&wanted_other).copied().collect());
        }
    }
}
