//! Maps of files with holes (GNU tar's manual, "Storing Sparse Files"). Pure.

use std::io;

use super::invalid::invalid;
use super::numbers::{decimal, number, unsigned};

/// What GNU tar writes of a number in a map of the form 1.0.
const DIGITS_MAX: usize = 20;

/// What is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Twelve bytes of place and twelve of length, as often as there is room. An empty pair ends it.
pub(super) fn of_header(bytes: &[u8]) -> io::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for pair in bytes.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        pieces.push(Piece {
            offset: unsigned(number(&pair[..12])?)?,
            length: unsigned(number(&pair[12..])?)?,
        });
    }
    Ok(pieces)
}

/// `offset,length,offset,length,…`
pub(super) fn of_words(text: &[u8]) -> io::Result<Vec<Piece>> {
    let numbers = text
        .split(|byte| *byte == b',')
        .map(decimal)
        .collect::<io::Result<Vec<_>>>()?;
    paired(&numbers)
}

fn paired(numbers: &[u64]) -> io::Result<Vec<Piece>> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(invalid("the map of a file with holes is cut off".to_owned()));
    }
    let piece = |[offset, length]: &[u64; 2]| Piece {
        offset: *offset,
        length: *length,
    };
    Ok(pairs.iter().map(piece).collect())
}

/// The map of the form 1.0, block by block: how many pieces, then two lines for each.
#[derive(Default)]
pub(super) struct Lines {
    count: Option<u64>,
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl Lines {
    pub(super) fn is_whole(&self) -> bool {
        self.count
            .is_some_and(|count| self.numbers.len() as u64 >= count.saturating_mul(2))
    }

    pub(super) fn take(&mut self, block: &[u8]) -> io::Result<()> {
        for byte in block {
            if self.is_whole() {
                break;
            }
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > DIGITS_MAX {
                    return Err(invalid(
                        "the map of a file with holes has a line that is no number".to_owned(),
                    ));
                }
                continue;
            }
            let number = decimal(&self.line)?;
            self.line.clear();
            match self.count {
                None => self.count = Some(number),
                Some(_) => self.numbers.push(number),
            }
        }
        Ok(())
    }

    pub(super) fn pieces(&self) -> Vec<Piece> {
        paired(&self.numbers).unwrap_or_default()
    }
}

/// Pieces come in order, end where the file does, and their data is there.
pub(super) fn check(pieces: &[Piece], size: u64, data: u64) -> io::Result<()> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for piece in pieces {
        let next = piece.offset.checked_add(piece.length).filter(|next| *next <= size);
        let (Some(next), true) = (next, piece.offset >= end) else {
            return Err(invalid(
                "the pieces of a file with holes lie over each other or beyond its end".to_owned(),
            ));
        };
        end = next;
        sum += piece.length;
    }
    if sum > data {
        return Err(invalid("a file with holes has less data than its map says".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(offset: u64, length: u64) -> Piece {
        Piece { offset, length }
    }

    #[test]
    fn maps_are_read_in_every_form() {
        assert_eq!(of_words(b"0,1,512,3").unwrap(), [piece(0, 1), piece(512, 3)]);
        assert!(of_words(b"0,1,2").is_err() && of_words(b"").is_err() && of_words(b"0,-1").is_err());
        let mut lines = Lines::default();
        lines.take(b"2\n0\n10\n40").unwrap();
        assert!(!lines.is_whole());
        lines.take(b"96\n5\n\0\0").unwrap();
        assert!(lines.is_whole());
        assert_eq!(lines.pieces(), [piece(0, 10), piece(4096, 5)]);
        assert!(Lines::default().take(&[b'1'; 21]).is_err());
        let header = [&b"00000000010\0"[..], b"00000000003\0", &[0; 24]].concat();
        assert_eq!(of_header(&header).unwrap(), [piece(8, 3)]);
    }

    #[test]
    fn pieces_lie_where_they_can() {
        check(&[piece(0, 1), piece(1, 2), piece(9, 0)], 9, 3).unwrap();
        for bad in [
            vec![piece(5, 5)],
            vec![piece(3, 2), piece(0, 1)],
            vec![piece(0, 2), piece(1, 1)],
        ] {
            assert!(check(&bad, 9, 100).is_err(), "{bad:?}");
        }
        assert!(check(&[piece(u64::MAX, 2)], u64::MAX, 9).is_err());
        assert!(check(&[piece(0, 4)], 9, 3).is_err());
    }
}
