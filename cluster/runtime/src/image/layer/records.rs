//! PAX records of a tar's headers. Pure.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;

use super::invalid::{invalid, shown};
use super::numbers::decimal;
use super::sparse::{self, Piece};

/// Begins the names of records with extended attributes.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
/// Begins the names of records about files with holes.
const SPARSE_PREFIX: &[u8] = b"GNU.sparse.";

/// What the PAX records before an entry say of it; what none says is in its header.
#[derive(Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) modified: Option<(i64, u32)>,
    pub(super) attributes: Vec<(OsString, Vec<u8>)>,
    pub(super) sparse: Sparse,
}

/// GNU's records for a file with holes, in all three forms.
#[derive(Default)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    /// In the forms 0.0 and 0.1; in 1.0 it is in the data.
    pub(super) map: Option<Vec<Piece>>,
    version: (Option<Vec<u8>>, Option<Vec<u8>>),
    /// Of 0.0, whose records come in pairs.
    offset: Option<u64>,
}

impl Sparse {
    /// A version that is not known says nothing.
    pub(super) fn is_sparse(&self) -> bool {
        match (self.version.0.as_deref(), self.version.1.as_deref()) {
            (Some(b"1"), Some(b"0")) => true,
            (None, None) | (Some(b"0"), Some(b"0" | b"1")) => self.map.is_some(),
            _ => false,
        }
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"major" => self.version.0 = Some(value.to_vec()),
            b"minor" => self.version.1 = Some(value.to_vec()),
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"map" => self.map = Some(sparse::of_words(value)?),
            b"offset" => self.offset = Some(decimal(value)?),
            b"numbytes" => {
                let offset = self.offset.take();
                let offset = offset.ok_or_else(|| invalid("a piece of a file with holes has no place".to_owned()))?;
                let length = decimal(value)?;
                self.map.get_or_insert_default().push(Piece { offset, length });
            }
            // How many there are is seen.
            _ => {}
        }
        Ok(())
    }
}

impl Records {
    /// Reads `length key=value\n`, one after the other. A value may hold whatever it likes: its length counts.
    pub(super) fn read(mut data: &[u8]) -> io::Result<Self> {
        let mut records = Self::default();
        while !data.is_empty() {
            let (key, value, rest) = split(data).ok_or_else(|| invalid("a PAX record is malformed".to_owned()))?;
            // An empty one takes back what was said for all.
            if !value.is_empty() {
                records.take(key, value)?;
            }
            data = rest;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match key {
            b"path" => self.path = Some(name(value)?),
            b"linkpath" => self.target = Some(name(value)?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(u32::try_from(decimal(value)?).unwrap_or(0)),
            b"gid" => self.gid = Some(u32::try_from(decimal(value)?).unwrap_or(0)),
            b"mtime" => self.modified = Some(time(value)?),
            _ => {
                if let Some(attribute) = key.strip_prefix(XATTR_PREFIX) {
                    let attribute = OsString::from_vec(attribute.to_vec());
                    self.attributes.push((attribute, value.to_vec()));
                } else if let Some(key) = key.strip_prefix(SPARSE_PREFIX) {
                    self.sparse.take(key, value)?;
                }
            }
        }
        Ok(())
    }
}

/// Key and value of the first record, and the rest.
fn split(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&data[..space]).ok()?.parse().ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
}

fn name(value: &[u8]) -> io::Result<Vec<u8>> {
    if value.contains(&0) {
        return Err(invalid(format!("{} is no name", shown(value))));
    }
    Ok(value.to_vec())
}

/// Seconds with a fraction. Before 1970 it is cut down to seconds, as nobody looks.
fn time(value: &[u8]) -> io::Result<(i64, u32)> {
    let bad = || invalid(format!("{:?} is no time", shown(value)));
    let text = std::str::from_utf8(value).map_err(|_| bad())?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| bad())?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(bad());
    }
    let digits = format!("{fraction:0<9}");
    let nanoseconds = digits.get(..9).and_then(|digits| digits.parse().ok()).ok_or_else(bad)?;
    Ok((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = body.len() + 1;
        while length.to_string().len() + body.len() != length {
            length = length.to_string().len() + body.len();
        }
        [length.to_string().as_bytes(), &body].concat()
    }

    #[test]
    fn records_end_where_they_say() {
        let capability = b"\x01\0\0\x02\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let data = [
            record("SCHILY.xattr.security.capability", capability),
            record("path", b"a\nb=c"),
            record("mtime", b"7.25"),
            record("uid", b"4000000000"),
            record("path2", b"nothing"),
        ];
        let records = Records::read(&data.concat()).unwrap();
        assert_eq!(
            records.attributes,
            [("security.capability".into(), capability.to_vec())]
        );
        assert_eq!(records.path.as_deref(), Some(&b"a\nb=c"[..]));
        assert_eq!(
            (records.modified, records.uid),
            (Some((7, 250_000_000)), Some(4_000_000_000))
        );
        for bad in [
            "3 a",
            "8 path=a\n",
            "x path=a\n",
            "11 path=a\n",
            "99999999999999999999 a=b\n",
            "8 path\n",
        ] {
            assert!(Records::read(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Records::read(&record("size", b"-1")).is_err());
        assert!(Records::read(&record("mtime", b"1.x")).is_err());
        assert!(Records::read(&record("path", b"a\0b")).is_err());
    }
}
