//! Frames to bytes and back. Pure; header blocks are compressed with a state that lasts as long as the connection.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::dictionary::dictionary;

/// Names in lower case; several values of a name are joined by a zero byte.
pub(crate) type Headers = BTreeMap<String, String>;

/// A control frame may be so long; Kubernetes' have some hundred bytes.
const CONTROL_BYTES_MAX: usize = 64 * 1024;
/// A header block may be so long when it is unpacked.
const HEADER_BYTES_MAX: usize = 256 * 1024;
/// Longer data frames are written as several.
const DATA_BYTES_MAX: usize = 0xff_ffff;

const VERSION: u16 = 3;
const FIN: u8 = 1;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// One frame. Settings and windows are read and told apart, but mean nothing here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    SynStream {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    Headers {
        id: u32,
        fin: bool,
        headers: Headers,
    },
    /// A long one comes out of the decoder in pieces, the last with its `fin`.
    Data {
        id: u32,
        fin: bool,
        bytes: Bytes,
    },
    Reset {
        id: u32,
        status: u32,
    },
    Ping(u32),
    GoAway {
        last: u32,
        status: u32,
    },
    WindowUpdate {
        id: u32,
        delta: u32,
    },
    Settings,
}

/// Status of a RST_STREAM.
pub(crate) const PROTOCOL_ERROR: u32 = 1;
/// Status of a RST_STREAM.
pub(crate) const INVALID_STREAM: u32 = 2;
/// Status of a RST_STREAM.
pub(crate) const REFUSED_STREAM: u32 = 3;
/// Status of a RST_STREAM.
pub(crate) const CANCEL: u32 = 5;

/// The peer does not speak SPDY/3.1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not SPDY/3.1: {0}")]
pub(crate) struct Malformed(&'static str);

/// Bytes to frames.
pub(crate) struct Decoder {
    inflate: Decompress,
    dictionary: Vec<u8>,
    /// Of the data frame whose head was read: stream, `fin`, bytes to come.
    data: Option<(u32, bool, usize)>,
}

impl Decoder {
    pub(crate) fn new() -> Self {
        Self {
            inflate: Decompress::new(true),
            dictionary: dictionary(),
            data: None,
        }
    }

    /// The next frame of what was read; None: more has to be read. After an error nothing further can be understood.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
        loop {
            if let Some((id, fin, left)) = self.data {
                let length = left.min(buffer.len());
                if length == 0 && left > 0 {
                    return Ok(None);
                }
                let whole = length == left;
                self.data = (!whole).then_some((id, fin, left - length));
                let bytes = buffer.split_to(length).freeze();
                return Ok(Some(Frame::Data {
                    id,
                    fin: fin && whole,
                    bytes,
                }));
            }
            let Some(mut head) = buffer.get(..8) else {
                return Ok(None);
            };
            let first = head.get_u32();
            let flags = head.get_u8();
            let length = usize::try_from(head.get_uint(3)).map_err(|_| Malformed("length"))?;
            if first >> 31 == 0 {
                buffer.advance(8);
                self.data = Some((first, flags & FIN != 0, length));
                continue;
            }
            if (first >> 16) & 0x7fff != u32::from(VERSION) {
                return Err(Malformed("another version"));
            }
            if length > CONTROL_BYTES_MAX {
                return Err(Malformed("a control frame is too long"));
            }
            if buffer.len() < 8 + length {
                return Ok(None);
            }
            buffer.advance(8);
            let payload = buffer.split_to(length).freeze();
            let kind = u16::try_from(first & 0xffff).map_err(|_| Malformed("type"))?;
            if let Some(frame) = self.control(kind, flags & FIN != 0, payload)? {
                return Ok(Some(frame));
            }
        }
    }

    /// None: a frame that may be passed over.
    fn control(&mut self, kind: u16, fin: bool, mut payload: Bytes) -> Result<Option<Frame>, Malformed> {
        let least = match kind {
            SYN_STREAM => 10,
            SYN_REPLY | HEADERS | SETTINGS | PING => 4,
            RST_STREAM | GOAWAY | WINDOW_UPDATE => 8,
            // Section 2.2.1: unknown types are to be ignored.
            _ => return Ok(None),
        };
        if payload.len() < least {
            return Err(Malformed("a control frame is too short"));
        }
        let id = payload.get_u32() & 0x7fff_ffff;
        Ok(Some(match kind {
            SYN_STREAM => {
                // The stream it belongs to, priority, slot.
                payload.advance(6);
                let headers = self.headers(&payload)?;
                Frame::SynStream { id, fin, headers }
            }
            SYN_REPLY => Frame::SynReply {
                id,
                fin,
                headers: self.headers(&payload)?,
            },
            HEADERS => Frame::Headers {
                id,
                fin,
                headers: self.headers(&payload)?,
            },
            RST_STREAM => Frame::Reset {
                id,
                status: payload.get_u32(),
            },
            PING => Frame::Ping(id),
            GOAWAY => Frame::GoAway {
                last: id,
                status: payload.get_u32(),
            },
            WINDOW_UPDATE => Frame::WindowUpdate {
                id,
                delta: payload.get_u32(),
            },
            _ => Frame::Settings,
        }))
    }

    fn headers(&mut self, packed: &[u8]) -> Result<Headers, Malformed> {
        let mut block = Bytes::from(self.unpack(packed)?);
        let mut headers = Headers::new();
        let short = Malformed("a header block is too short");
        let text = |block: &mut Bytes| -> Option<String> {
            let length = usize::try_from(block.try_get_u32().ok()?).ok()?;
            (length <= block.len()).then(|| String::from_utf8_lossy(&block.split_to(length)).into_owned())
        };
        let Ok(count) = block.try_get_u32() else {
            return Err(short);
        };
        for _ in 0..count {
            let (Some(name), Some(value)) = (text(&mut block), text(&mut block)) else {
                return Err(short);
            };
            headers.insert(name.to_ascii_lowercase(), value);
        }
        Ok(headers)
    }

    fn unpack(&mut self, mut packed: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut block = Vec::with_capacity(1024);
        loop {
            let before = self.inflate.total_in();
            let outcome = self.inflate.decompress_vec(packed, &mut block, FlushDecompress::Sync);
            let taken = usize::try_from(self.inflate.total_in() - before).unwrap_or(usize::MAX);
            packed = packed.get(taken..).unwrap_or_default();
            match outcome {
                Ok(Status::StreamEnd) => return Err(Malformed("the header compression has ended")),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate
                        .set_dictionary(&self.dictionary)
                        .map_err(|_| Malformed("another header dictionary"))?;
                    continue;
                }
                Err(_) => return Err(Malformed("a header block cannot be unpacked")),
            }
            if block.len() < block.capacity() {
                return if packed.is_empty() {
                    Ok(block)
                } else {
                    Err(Malformed("a header block cannot be unpacked"))
                };
            }
            if block.len() > HEADER_BYTES_MAX {
                return Err(Malformed("a header block is too long"));
            }
            block.reserve(4096);
        }
    }
}

/// Frames to bytes.
pub(crate) struct Encoder {
    deflate: Compress,
}

impl Encoder {
    pub(crate) fn new() -> Self {
        let mut deflate = Compress::new(Compression::default(), true);
        // It fails on a stream that has begun, only; without it a peer could read us as well.
        let _ = deflate.set_dictionary(&dictionary());
        Self { deflate }
    }

    /// Appends a frame.
    pub(crate) fn write(&mut self, frame: &Frame, to: &mut BytesMut) {
        match frame {
            Frame::SynStream { id, fin, headers } => {
                let mut payload = BytesMut::new();
                payload.put_u32(*id);
                payload.put_bytes(0, 6);
                payload.put_slice(&self.pack(headers));
                control(to, SYN_STREAM, *fin, &payload);
            }
            Frame::SynReply { id, fin, headers } => self.with_headers(to, SYN_REPLY, *fin, *id, headers),
            Frame::Headers { id, fin, headers } => self.with_headers(to, HEADERS, *fin, *id, headers),
            Frame::Data { id, fin, bytes } => {
                let mut pieces = bytes.chunks(DATA_BYTES_MAX).peekable();
                if pieces.peek().is_none() {
                    data(to, *id, *fin, &[]);
                }
                while let Some(piece) = pieces.next() {
                    data(to, *id, *fin && pieces.peek().is_none(), piece);
                }
            }
            Frame::Reset { id, status } => two_words(to, RST_STREAM, *id, *status),
            Frame::Ping(id) => control(to, PING, false, &id.to_be_bytes()),
            Frame::GoAway { last, status } => two_words(to, GOAWAY, *last, *status),
            Frame::WindowUpdate { id, delta } => two_words(to, WINDOW_UPDATE, *id, *delta),
            // No settings.
            Frame::Settings => control(to, SETTINGS, false, &0_u32.to_be_bytes()),
        }
    }

    fn with_headers(&mut self, to: &mut BytesMut, kind: u16, fin: bool, id: u32, headers: &Headers) {
        let mut payload = BytesMut::new();
        payload.put_u32(id);
        payload.put_slice(&self.pack(headers));
        control(to, kind, fin, &payload);
    }

    fn pack(&mut self, headers: &Headers) -> Vec<u8> {
        let mut block = vec![];
        block.put_u32(length(headers.len()));
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(length(text.len()));
            block.put_slice(text.as_bytes());
        }
        let mut packed = Vec::with_capacity(block.len() + 64);
        let mut rest = block.as_slice();
        loop {
            let before = self.deflate.total_in();
            // It never fails where memory can be had.
            let _ = self.deflate.compress_vec(rest, &mut packed, FlushCompress::Sync);
            let taken = usize::try_from(self.deflate.total_in() - before).unwrap_or(usize::MAX);
            rest = rest.get(taken..).unwrap_or_default();
            if packed.len() < packed.capacity() {
                return packed;
            }
            packed.reserve(1024);
        }
    }
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn control(to: &mut BytesMut, kind: u16, fin: bool, payload: &[u8]) {
    to.put_u16(0x8000 | VERSION);
    to.put_u16(kind);
    to.put_u8(if fin { FIN } else { 0 });
    to.put_uint(payload.len() as u64, 3);
    to.put_slice(payload);
}

fn two_words(to: &mut BytesMut, kind: u16, one: u32, two: u32) {
    let mut payload = [0; 8];
    payload[..4].copy_from_slice(&one.to_be_bytes());
    payload[4..].copy_from_slice(&two.to_be_bytes());
    control(to, kind, false, &payload);
}

fn data(to: &mut BytesMut, id: u32, fin: bool, bytes: &[u8]) {
    to.put_u32(id & 0x7fff_ffff);
    to.put_u8(if fin { FIN } else { 0 });
    to.put_uint(bytes.len() as u64, 3);
    to.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
    }

    fn all() -> Vec<Frame> {
        vec![
            Frame::SynStream {
                id: 1,
                fin: true,
                headers: headers(&[("streamtype", "error"), ("port", "80"), ("requestid", "0")]),
            },
            Frame::SynStream {
                id: 3,
                fin: false,
                headers: headers(&[("streamtype", "data"), ("port", "80"), ("requestid", "0")]),
            },
            Frame::SynReply {
                id: 3,
                fin: false,
                headers: Headers::new(),
            },
            Frame::Headers {
                id: 3,
                fin: false,
                headers: headers(&[("long", &"x".repeat(30_000))]),
            },
            Frame::Data {
                id: 3,
                fin: true,
                bytes: Bytes::from_static(b"hello"),
            },
            Frame::Data {
                id: 3,
                fin: true,
                bytes: Bytes::new(),
            },
            Frame::Reset { id: 3, status: CANCEL },
            Frame::Ping(7),
            Frame::WindowUpdate { id: 3, delta: 1 },
            Frame::Settings,
            Frame::GoAway { last: 3, status: 0 },
        ]
    }

    #[test]
    fn every_frame_comes_back_whole() {
        let (mut encoder, mut decoder, mut bytes) = (Encoder::new(), Decoder::new(), BytesMut::new());
        for frame in all() {
            encoder.write(&frame, &mut bytes);
        }
        for frame in all() {
            assert_eq!(decoder.next(&mut bytes), Ok(Some(frame)));
        }
        assert_eq!((decoder.next(&mut bytes), bytes.len()), (Ok(None), 0));
    }

    #[test]
    fn bytes_may_come_one_by_one() {
        let (mut encoder, mut decoder, mut bytes) = (Encoder::new(), Decoder::new(), BytesMut::new());
        for frame in all() {
            encoder.write(&frame, &mut bytes);
        }
        let (mut arrived, mut text, mut frames) = (BytesMut::new(), vec![], 0);
        for byte in bytes {
            arrived.put_u8(byte);
            while let Some(frame) = decoder.next(&mut arrived).unwrap() {
                match frame {
                    Frame::Data { bytes, .. } => text.extend_from_slice(&bytes),
                    _ => frames += 1,
                }
            }
        }
        assert_eq!((text.as_slice(), frames), (b"hello".as_slice(), 9));
    }

    /// Two frames as Kubernetes' Go clients write them.
    #[test]
    fn what_another_program_packed_is_read() {
        let written = "800300010100003d0000000100000000000078f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45a024cc6461\
                       c0c0c0c0590489c44c50e2663400000000ffff800300010000001800000003000000000000c2aa15540a2512d209000000ffff";
        let byte = |at: usize| u8::from_str_radix(&written[at..at + 2], 16).unwrap();
        let mut bytes: BytesMut = (0..written.len()).step_by(2).map(byte).collect();
        let expected = |id, fin, kind| {
            Ok(Some(Frame::SynStream {
                id,
                fin,
                headers: headers(&[("streamtype", kind), ("port", "80"), ("requestid", "0")]),
            }))
        };
        let mut decoder = Decoder::new();
        assert_eq!(decoder.next(&mut bytes), expected(1, true, "error"));
        assert_eq!(decoder.next(&mut bytes), expected(3, false, "data"));
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |bytes: &[u8]| Decoder::new().next(&mut BytesMut::from(bytes)).is_err();
        assert!(refused(b"\x80\x02\x00\x01\x00\x00\x00\x00"), "version 2");
        assert!(refused(b"\x80\x03\x00\x01\x00\xff\xff\xff"), "endless control frame");
        assert!(
            refused(b"\x80\x03\x00\x03\x00\x00\x00\x04\x00\x00\x00\x01"),
            "short reset"
        );
        assert!(
            refused(b"\x80\x03\x00\x02\x00\x00\x00\x08\x00\x00\x00\x01abcd"),
            "headers that are not zlib"
        );
        assert!(!refused(b"\x80\x03\x00\x63\x00\x00\x00\x00"), "unknown types pass");
    }

    mod fuzz {
        use proptest::prelude::*;

        use super::*;

        /// A connection's bytes: once all frames, and once with each frame by itself.
        fn connections() -> Vec<Vec<u8>> {
            let written = |frames: &[Frame]| {
                let (mut encoder, mut bytes) = (Encoder::new(), BytesMut::new());
                frames.iter().for_each(|frame| encoder.write(frame, &mut bytes));
                bytes.to_vec()
            };
            let short: Vec<_> = all()
                .into_iter()
                .filter(|f| !matches!(f, Frame::Headers { .. }))
                .collect();
            let mut corpus: Vec<_> = short.iter().map(|frame| written(std::slice::from_ref(frame))).collect();
            corpus.push(written(&short));
            corpus
        }

        proptest! {
            #[test]
            fn frames_are_read_or_refused(bytes in afloat_fuzz::damaged(connections()), piece in 1_usize..64) {
                let (mut decoder, mut arrived) = (Decoder::new(), BytesMut::new());
                let mut left = bytes.len();
                for bytes in bytes.chunks(piece) {
                    arrived.extend_from_slice(bytes);
                    loop {
                        match decoder.next(&mut arrived) {
                            Ok(None) => break,
                            Ok(Some(Frame::Data { bytes, .. })) => {
                                prop_assert!(bytes.len() <= left, "no more comes out than went in");
                                left -= bytes.len();
                            }
                            Ok(Some(_)) => {}
                            Err(_) => return Ok(()),
                        }
                    }
                    prop_assert!(arrived.len() < CONTROL_BYTES_MAX + 8 + piece, "what waits is bounded");
                }
            }
        }
    }
}
