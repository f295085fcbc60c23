//! Layers and archives as they are packed.

use std::cell::Cell;
use std::fs;
use std::io::{self, Read};
use std::rc::Rc;

use super::invalid::invalid;

/// What has more than a GiB may be larger than it was packed by this factor: text is by 10, and gzip knows no more than 1,030.
const RATIO_MAX: u64 = 100;
const SMALL: u64 = 1 << 30;
/// Memory that a zstd stream may ask for, as a power of two: 32 MiB, what BuildKit's encoder takes at its best.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// By the first bytes: gzip, zstd or neither. What is packed out of all proportion is an error while it is read.
pub(in crate::image) fn decompressed(file: fs::File) -> io::Result<impl Read> {
    decompressed_beyond(file, SMALL)
}

/// `small`: how much may come out whatever went in.
pub(super) fn decompressed_beyond(file: fs::File, small: u64) -> io::Result<impl Read> {
    let taken = Rc::new(Cell::new(0));
    let counted = Counted {
        inner: file,
        bytes: Rc::clone(&taken),
    };
    let mut reader = io::BufReader::with_capacity(1 << 17, counted);
    let start = io::BufRead::fill_buf(&mut reader)?;
    let inner: Box<dyn Read> = match start {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(reader)),
        // A stream may begin with frames that are passed over (RFC 8878).
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
        _ => Box::new(reader),
    };
    Ok(Decompressed {
        inner,
        taken,
        given: 0,
        small,
    })
}

struct Counted<R> {
    inner: R,
    bytes: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get() + length as u64);
        Ok(length)
    }
}

struct Decompressed {
    inner: Box<dyn Read>,
    taken: Rc<Cell<u64>>,
    given: u64,
    small: u64,
}

impl Read for Decompressed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.given += length as u64;
        if self.given > self.small && self.given / RATIO_MAX > self.taken.get() {
            return Err(invalid(format!(
                "{} bytes were {} before they were packed, which no honest layer is",
                self.taken.get(),
                self.given
            )));
        }
        Ok(length)
    }
}

/// The most that so many bytes may become.
pub(in crate::image) fn most_of(bytes: u64) -> u64 {
    SMALL.max(bytes.saturating_mul(RATIO_MAX))
}
