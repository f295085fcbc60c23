//! Random stacks of layers. The same number gives the same stack.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::made::{Item, Packed, packed};

/// Names are few, so that layers meet.
const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "long"];
const DEPTH_MAX: usize = 3;

/// One to five layers.
pub(super) fn random(seed: u64) -> Vec<Packed> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut layers: Vec<Packed> = Vec::new();
    for _ in 0..random.random_range(1..=5) {
        if !layers.is_empty() && random.random_ratio(1, 8) {
            // Builders repeat themselves.
            let again = layers[random.random_range(0..layers.len())].clone();
            layers.push(again);
            continue;
        }
        let items = Layer::new(&mut random, layers.is_empty()).items();
        let packing = random.random_range(0..3);
        layers.extend(packed(&items, packing));
    }
    layers
}

struct Layer<'a> {
    random: &'a mut StdRng,
    /// Such a one hides nothing: where it has an opaque folder, containerd loses what is in folders without entries there.
    lowest: bool,
    /// What this layer has made: `true` are folders. A name is of one kind within a layer.
    made: BTreeMap<String, bool>,
    /// What it hides. Not made again: containerd forgets the whiteout where a folder follows it.
    hidden: BTreeSet<String>,
    items: Vec<Item>,
}

impl<'a> Layer<'a> {
    fn new(random: &'a mut StdRng, lowest: bool) -> Self {
        Self {
            random,
            lowest,
            made: BTreeMap::new(),
            hidden: BTreeSet::new(),
            items: Vec::new(),
        }
    }

    fn items(mut self) -> Vec<Item> {
        for _ in 0..self.random.random_range(1..=12) {
            self.add();
        }
        self.items
    }

    fn path(&mut self) -> String {
        let depth = self.random.random_range(1..=DEPTH_MAX);
        let names: Vec<_> = (0..depth).filter_map(|_| NAMES.choose(self.random).copied()).collect();
        // Too long for a header as it is.
        names.join("/").replace("long", &"long".repeat(40))
    }

    /// Whether the layer may have this here: what is around it are folders, nothing of it is hidden.
    fn fits(&self, path: &str, folder: bool) -> bool {
        let around = path.match_indices('/').map(|(end, _)| &path[..end]);
        let open = |outer: &str| self.made.get(outer) != Some(&false) && !self.hidden.contains(outer);
        around.clone().all(open)
            && !self.hidden.contains(path)
            && self.made.get(path).is_none_or(|made| *made == folder)
    }

    fn note(&mut self, path: &str, folder: bool) {
        for (end, _) in path.match_indices('/') {
            self.made.entry(path[..end].to_owned()).or_insert(true);
        }
        self.made.insert(path.to_owned(), folder);
    }

    fn add(&mut self) {
        let path = self.path();
        let what = self.random.random_range(0..14);
        if what >= 12 {
            if !self.lowest {
                self.hide(&path, what == 12);
            }
            return;
        }
        let folder = what < 3;
        if !self.fits(&path, folder) {
            return;
        }
        let Some(mut item) = self.item(&path, what) else { return };
        self.note(&path, folder);
        if self.random.random_ratio(1, 3) {
            item.path = format!("{}{}", ["./", "/", ".//"][self.random.random_range(0..3)], item.path);
        }
        if folder && self.random.random_ratio(1, 2) {
            item.path.push('/');
        }
        self.items.push(item);
    }

    fn item(&mut self, path: &str, what: u32) -> Option<Item> {
        let mode = [0o644, 0o755, 0o700, 0o1777, 0o4755, 0o2750, 0, 0o555][self.random.random_range(0..8)];
        let owner = [(0, 0), (1000, 1000), (65_534, 65_534), (7, 3_000_000)][self.random.random_range(0..4)];
        let text = format!("{path} {}", self.random.random_range(0..1000));
        let item = match what {
            // No set-group-id: a folder that is made in such a one without an entry inherits its group, where its mode is set at once.
            0..3 => Item::folder(path, mode & !0o2000),
            3..7 => Item::file(path, mode, text.as_bytes()),
            7 => Item::link(
                path,
                ["../a", "/b/c", "nowhere", "./d", "../../../../etc"][self.random.random_range(0..5)],
            ),
            8 => {
                let target = self.files().choose(self.random)?.clone();
                if target == path {
                    return None;
                }
                return Some(Item::hard_link(path, &target, 0o640).owned(owner.0, owner.1));
            }
            9 => Item::pipe(path, mode),
            _ => {
                let form = self.random.random_range(0..3);
                let pieces: [(u64, &[u8]); 2] = [(100, text.as_bytes()), (9000, b"end")];
                Item::sparse(path, mode, form, 10_000, &pieces)
            }
        };
        let item = item
            .owned(owner.0, owner.1)
            .at(self.random.random_range(0..1_600_000_000));
        Some(self.with_records(item, what))
    }

    fn with_records(&mut self, mut item: Item, what: u32) -> Item {
        if self.random.random_ratio(1, 4) {
            item = item.record("mtime", b"1234567890.123456789");
        }
        // Not of folders: containerd keeps those of lower layers where an entry comes after what is in it.
        if (3..7).contains(&what) && self.random.random_ratio(1, 4) {
            item = item.record("SCHILY.xattr.user.note", b"two\nlines = 2");
        }
        if (3..7).contains(&what) && self.random.random_ratio(1, 4) {
            // cap_dac_override and cap_fowner: its third byte is a line break.
            let capability = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
            item = item.record("SCHILY.xattr.security.capability", capability);
        }
        item
    }

    /// Files of this layer, as links may name them.
    fn files(&self) -> Vec<String> {
        let named = |item: &Item| item.path.trim_start_matches(['.', '/']).to_owned();
        let files = self
            .items
            .iter()
            .filter(|item| item.kind == b'0' && item.records.is_empty());
        files.map(named).filter(|path| !path.contains(".wh.")).collect()
    }

    fn hide(&mut self, path: &str, one: bool) {
        let (outer, name) = path.rsplit_once('/').unwrap_or(("", path));
        if one {
            // containerd will not have a whiteout of what the layer itself made.
            if self.made.contains_key(path) || !self.fits(path, false) {
                return;
            }
            self.hidden.insert(path.to_owned());
            for (end, _) in path.match_indices('/') {
                self.made.entry(path[..end].to_owned()).or_insert(true);
            }
            let whiteout = format!("{outer}/.wh.{name}");
            self.items.push(Item::whiteout(whiteout.trim_start_matches('/')));
        } else if !outer.is_empty() && self.fits(outer, true) {
            self.note(outer, true);
            self.items.push(Item::whiteout(&format!("{outer}/.wh..wh..opq")));
        }
    }
}
