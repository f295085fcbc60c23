//! Which images to remove when the disk fills up. Pure. The rules are the kubelet's (kubernetes.io, Garbage Collection,
//! "Container image garbage collection"): begin at the high threshold, go down to the low one, oldest use first.

use std::time::Duration;

use jiff::Timestamp;

/// When to remove images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Begin when so many per cent of the disk are used.
    pub high_percent: u8,
    /// Go on until it is so many.
    pub low_percent: u8,
    /// Never those that came or were used within this time.
    pub minimum_age: Duration,
}

impl Default for Thresholds {
    /// The kubelet's.
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
            minimum_age: Duration::from_secs(120),
        }
    }
}

/// The disk that the images are on, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub capacity: u64,
    /// What may still be used.
    pub available: u64,
}

impl Disk {
    fn used_percent(self) -> u64 {
        if self.capacity == 0 {
            return 0;
        }
        100 - self.available.min(self.capacity).saturating_mul(100) / self.capacity
    }

    /// Bytes to free so that at most `percent` are used.
    pub fn excess(self, percent: u8) -> u64 {
        let wanted = self.capacity / 100 * u64::from(100_u8.saturating_sub(percent));
        wanted.saturating_sub(self.available)
    }

    /// Whether the node is short of disk: less than 15 % are left, the kubelet's default for images
    /// (`imagefs.available<15%`), and less than 10 GiB, as a developer's large disk is often fuller than a server's.
    pub fn pressure(self) -> bool {
        self.available < self.capacity / 100 * 15 && self.available < 10 << 30
    }
}

/// An image that may be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// Since when it is known.
    pub first_seen: Timestamp,
    /// When a container last used it; the beginning of time if none has.
    pub last_used: Timestamp,
    /// A container uses it.
    pub in_use: bool,
    /// It was made or loaded here: nothing would bring it back.
    pub only_here: bool,
}

/// The images to remove, in this order, until the disk is used no more than the low threshold says. Empty below the high one.
pub fn collection(disk: Disk, thresholds: &Thresholds, candidates: &[Candidate], now: Timestamp) -> Vec<String> {
    if disk.used_percent() < u64::from(thresholds.high_percent) || disk.excess(thresholds.low_percent) == 0 {
        return Vec::new();
    }
    let age = |moment: Timestamp| Duration::try_from(now.duration_since(moment)).unwrap_or(Duration::ZERO);
    let old = |image: &&Candidate| age(image.first_seen).min(age(image.last_used)) >= thresholds.minimum_age;
    let free = candidates.iter().filter(|image| !image.in_use && !image.only_here);
    let mut chosen: Vec<_> = free.filter(old).collect();
    chosen.sort_by_key(|image| (image.last_used, image.first_seen, &image.id));
    chosen.into_iter().map(|image| image.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn image(id: &str, first_seen: i64, last_used: i64) -> Candidate {
        Candidate {
            id: id.to_owned(),
            first_seen: at(first_seen),
            last_used: at(last_used),
            in_use: false,
            only_here: false,
        }
    }

    fn disk(available: u64) -> Disk {
        Disk {
            capacity: 1000,
            available,
        }
    }

    #[test]
    fn the_oldest_use_goes_first_and_only_above_the_threshold() {
        let images = [
            image("used lately", 0, 800),
            image("never used, new", 500, 0),
            image("never used, old", 100, 0),
            image("too young", 950, 0),
            image("used just now", 0, 950),
            Candidate {
                in_use: true,
                ..image("in use", 0, 0)
            },
            Candidate {
                only_here: true,
                ..image("made here", 0, 0)
            },
        ];
        let plan = |available| collection(disk(available), &Thresholds::default(), &images, at(1000));
        assert_eq!(plan(150), ["never used, old", "never used, new", "used lately"]);
        assert_eq!(plan(0).len(), 3);
        assert!(plan(160).is_empty(), "84 % are used");
        let empty = Disk {
            capacity: 0,
            available: 0,
        };
        assert!(collection(empty, &Thresholds::default(), &images, at(1000)).is_empty());
    }

    #[test]
    fn the_excess_is_what_is_missing_to_the_low_threshold() {
        assert_eq!(disk(150).excess(80), 50);
        assert_eq!(disk(200).excess(80), 0);
        assert_eq!(disk(900).excess(0), 100);
    }

    #[test]
    fn pressure_is_relative_and_absolute() {
        let of = |capacity: u64, available: u64| {
            Disk {
                capacity: capacity << 30,
                available: available << 30,
            }
            .pressure()
        };
        assert!(of(40, 5));
        assert!(!of(40, 7));
        assert!(!of(1000, 50), "50 GiB are enough");
        assert!(of(1000, 9));
    }
}
