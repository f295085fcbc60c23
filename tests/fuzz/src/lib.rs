//! Input that is almost right: what a reader of bytes from elsewhere must survive. Only tests use it.
//!
//! A fuzz target is a property in a module `fuzz` beside what it feeds, so that it reaches what is private. It begins with input
//! that is right, its corpus; [`damaged`] does to it what disks, networks and attackers do. With every `cargo test` each target
//! gets 256 inputs; `PROPTEST_CASES=100000 cargo test --workspace --lib fuzz::` looks longer. A failure is made small and kept in
//! `proptest-regressions`, as with all properties; its input belongs into the corpus when the fault is mended.

use proptest::prelude::*;
use proptest::sample::Index;

/// Numbers at which sizes, signs and counts turn over.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xc0, 0xfe, 0xff, b'.'];
/// Longest input that repetition may make of a short one.
const BYTES_MAX: usize = 1 << 16;

/// One thing that happens to the input. Places are relative, so that they fit whatever its length has become.
#[derive(Clone, Debug)]
enum Damage {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    /// A piece of another right input.
    Splice(Index, Index, Index, usize),
    Cut(Index),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let place = |index: &Index, length: usize| index.index(length + 1);
        match self {
            Self::Set(at, byte) => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
            }
            Self::Flip(at, bit) => {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] ^= 1 << (bit & 7);
                }
            }
            Self::Insert(at, new) => {
                let at = place(at, bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, length) => {
                let at = place(at, bytes.len());
                bytes.drain(at..(at + length).min(bytes.len()));
            }
            Self::Repeat(at, length, times) => {
                let at = place(at, bytes.len());
                let piece = bytes[at..(at + length).min(bytes.len())].to_vec();
                let times = (*times).min(BYTES_MAX / piece.len().max(1));
                bytes.splice(at..at, piece.repeat(times));
            }
            Self::Splice(which, from, at, length) => {
                let other = &corpus[which.index(corpus.len())];
                let from = place(from, other.len());
                let at = place(at, bytes.len());
                bytes.splice(at..at, other[from..(from + length).min(other.len())].iter().copied());
            }
            Self::Cut(at) => bytes.truncate(place(at, bytes.len())),
        }
        bytes.truncate(BYTES_MAX);
    }
}

fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), proptest::sample::select(EDGES.as_slice()), 0x20_u8..0x7f]
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        (at(), byte()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), any::<u8>()).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (at(), prop::collection::vec(byte(), 1..8)).prop_map(|(at, new)| Damage::Insert(at, new)),
        (at(), 1_usize..32).prop_map(|(at, length)| Damage::Remove(at, length)),
        (at(), 1_usize..16, prop_oneof![1_usize..4, 1_usize..5000])
            .prop_map(|(at, length, times)| Damage::Repeat(at, length, times)),
        (at(), at(), at(), 1_usize..64).prop_map(|(which, from, at, length)| Damage::Splice(which, from, at, length)),
        at().prop_map(Damage::Cut),
    ]
}

/// Inputs of the corpus, each with up to eight things done to it.
///
/// # Panics
/// If the corpus is empty.
pub fn damaged(corpus: impl IntoIterator<Item = impl Into<Vec<u8>>>) -> impl Strategy<Value = Vec<u8>> {
    let corpus: Vec<Vec<u8>> = corpus.into_iter().map(Into::into).collect();
    assert!(!corpus.is_empty(), "a fuzz target begins with input that is right");
    (any::<Index>(), prop::collection::vec(damage(), 0..8)).prop_map(move |(which, damages)| {
        let mut bytes = corpus[which.index(corpus.len())].clone();
        for damage in damages {
            damage.apply(&mut bytes, &corpus);
        }
        bytes
    })
}

/// The same for readers of text: what is no UTF-8 any more is replaced.
pub fn damaged_text(corpus: &[&str]) -> impl Strategy<Value = String> + use<> {
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|text| text.as_bytes().to_vec()).collect();
    damaged(corpus).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
