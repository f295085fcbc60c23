//! Layers that no honest tool makes.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;

use tar::EntryType;

use super::packed::decompressed_beyond;
use super::place::hidden_by;
use super::*;
use crate::image::tests::tar;

/// Bytes without end, as far as anybody reads.
fn endless(start: Vec<u8>) -> impl Read {
    io::Cursor::new(start).chain(io::repeat(b'x'))
}

fn header(path: &str, kind: EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    header
}

fn unpacked(stream: impl Read) -> (tempfile::TempDir, Result<Unpacked, ImageError>) {
    let dir = tempfile::tempdir().unwrap();
    let result = unpack(stream, dir.path());
    (dir, result)
}

fn refused(stream: impl Read, words: &str) {
    let told = unpacked(stream).1.unwrap_err().to_string();
    assert!(told.contains(words), "{told}");
}

/// As a process: what it has in memory at most, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn headers_of_an_entry_end() {
    let before = peak();
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let start = header("././@LongLink", kind, 2 << 30).as_bytes().to_vec();
        refused(endless(start), "headers of an entry are longer");
    }
    // One after the other, each of them small, for a file that never comes.
    let mut many = vec![];
    for number in 0..2 {
        let mut body = vec![b'a'; 600 << 10];
        body.resize(body.len().next_multiple_of(512), 0);
        let kind = [EntryType::GNULongName, EntryType::GNULongLink][number];
        many.extend_from_slice(header("././@LongLink", kind, 600 << 10).as_bytes());
        many.extend(body);
    }
    refused(&many[..], "headers of an entry are longer");
    // Those that say how a file with holes goes on.
    let mut start = header("sparse", EntryType::GNUSparse, 0);
    start.as_gnu_mut().unwrap().isextended[0] = 1;
    start.set_cksum();
    let mut block = [0_u8; 512];
    block[504] = 1;
    let blocks = std::iter::repeat_n(block, 4096).flatten().collect::<Vec<u8>>();
    refused(
        io::Cursor::new(start.as_bytes().to_vec()).chain(&blocks[..]),
        "headers of an entry are longer",
    );
    assert!(peak() - before < 64 << 10, "{} KiB, {before} before", peak());
}

#[test]
fn what_is_for_everybody_does_not_add_up() {
    // A global header is an entry as any other, and nothing is made of it.
    let mut all = vec![];
    for _ in 0..3 {
        all.extend_from_slice(header("pax_global_header", EntryType::XGlobalHeader, 512).as_bytes());
        all.extend([b' '; 512]);
    }
    let (dir, result) = unpacked(&all[..]);
    result.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_file_of_holes_is_no_file() {
    let mut sparse = header("passwd", EntryType::GNUSparse, 0);
    let gnu = sparse.as_gnu_mut().unwrap();
    // GNU's form of 8 EiB: a number in binary, the first bit set.
    let number = |field: &mut [u8; 12]| {
        *field = [0; 12];
        field[0] = 0x80;
        field[4..].copy_from_slice(&(i64::MAX as u64).to_be_bytes());
    };
    number(&mut gnu.realsize);
    number(&mut gnu.sparse[0].offset);
    gnu.sparse[0].numbytes = *b"00000000000\0";
    sparse.set_cksum();
    refused(sparse.as_bytes().as_slice(), "passwd is almost nothing but holes");
}

#[test]
fn what_is_packed_out_of_proportion_is_not_unpacked() {
    for zstd in [false, true] {
        let mut file = tempfile::tempfile().unwrap();
        let portion = vec![0; 4 << 20];
        let write = |to: &mut dyn io::Write| to.write_all(&portion).unwrap();
        if zstd {
            let mut encoder = zstd::stream::write::Encoder::new(&mut file, 1).unwrap();
            write(&mut encoder);
            encoder.finish().unwrap();
        } else {
            let mut encoder = flate2::write::GzEncoder::new(&mut file, flate2::Compression::fast());
            write(&mut encoder);
            encoder.finish().unwrap();
        }
        io::Seek::rewind(&mut file).unwrap();
        let mut stream = decompressed_beyond(file, 1 << 20).unwrap();
        let told = io::copy(&mut stream, &mut io::sink()).unwrap_err().to_string();
        assert!(told.contains("no honest layer"), "{told}");
    }
}

#[test]
fn a_zstd_stream_gets_no_more_memory_than_it_needs() {
    let mut file = tempfile::tempfile().unwrap();
    let mut encoder = zstd::stream::write::Encoder::new(&mut file, 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(b"small, but it might have been large").unwrap();
    encoder.finish().unwrap();
    io::Seek::rewind(&mut file).unwrap();
    assert!(io::copy(&mut decompressed(file).unwrap(), &mut io::sink()).is_err());
}

#[test]
fn folders_in_folders_end() {
    let deep = "d/".repeat(1100);
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = header("x", EntryType::Directory, 0);
    builder.append_data(&mut header, &deep, io::empty()).unwrap();
    refused(&builder.into_inner().unwrap()[..], "more than 1024 deep");
}

/// More folders than descriptors, each with a mode that would be in the way if it had it at once.
#[test]
fn folders_need_no_descriptors() {
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..3000 {
        let mut folder = header("x", EntryType::Directory, 0);
        folder.set_mode(0o555);
        builder
            .append_data(&mut folder, format!("{number}"), io::empty())
            .unwrap();
        let mut file = header("x", EntryType::Regular, 1);
        builder
            .append_data(&mut file, format!("{number}/f"), &b"y"[..])
            .unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let (dir, result) = unpacked(&bytes[..]);
    assert_eq!(result.unwrap().size, 3000);
    assert_eq!(
        fs::metadata(dir.path().join("2999")).unwrap().permissions().mode() & 0o777,
        0o555
    );
    let open = fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(open < 500, "{open} of {limit:?}");
}

#[test]
fn no_image_brings_devices() {
    let layer = tar(&[
        ("char", EntryType::Char, ""),
        ("block", EntryType::Block, ""),
        ("fifo", EntryType::Fifo, ""),
        (".wh..wh.plnk", EntryType::Regular, ""),
    ]);
    let (dir, result) = unpacked(&layer.unwrap()[..]);
    result.unwrap();
    let all: Vec<_> = fs::read_dir(dir.path()).unwrap().flatten().collect();
    assert!(all.len() == 1 && all[0].file_type().unwrap().is_fifo(), "{all:?}");
}

#[test]
fn what_hides_nothing_is_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh..."] {
        let layer = tar(&[("d", EntryType::Directory, ""), (name, EntryType::Regular, "")]);
        refused(&layer.unwrap()[..], "hides what is no name");
    }
    for name in ["a/b", "a/", "../a", "/a", "", ".", "..", "/"] {
        assert!(hidden_by(OsStr::new(&format!(".wh.{name}"))).is_err(), "{name:?}");
    }
}

/// GNU's form of old, with more pieces than a header takes.
#[test]
fn holes_stay_holes() {
    let mut header = header("holes", EntryType::GNUSparse, 6);
    let octal = |field: &mut [u8], number: u64| field.copy_from_slice(format!("{number:011o}\0").as_bytes());
    let mut more = [0_u8; 512];
    let gnu = header.as_gnu_mut().unwrap();
    octal(&mut gnu.realsize, 1 << 20);
    for number in 0..6_u64 {
        let offset = number << 16;
        if let Some(slot) = gnu.sparse.get_mut(usize::try_from(number).unwrap()) {
            octal(&mut slot.offset, offset);
            octal(&mut slot.numbytes, 1);
        } else {
            let start = usize::try_from(number - 4).unwrap() * 24;
            octal(&mut more[start..start + 12], offset);
            octal(&mut more[start + 12..start + 24], 1);
        }
    }
    gnu.isextended[0] = 1;
    header.set_cksum();
    let mut data = b"abcdef".to_vec();
    data.resize(512, 0);
    let (dir, result) = unpacked(&[&header.as_bytes()[..], &more, &data].concat()[..]);
    assert_eq!(result.unwrap().size, 1 << 20);
    let file = fs::read(dir.path().join("holes")).unwrap();
    let found: Vec<_> = file.iter().enumerate().filter(|(_, byte)| **byte != 0).collect();
    assert_eq!(found.len(), 6);
    assert!(
        found
            .iter()
            .zip(b"abcdef")
            .enumerate()
            .all(|(n, ((at, byte), wanted))| *at == n << 16 && *byte == wanted)
    );
    let disk = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(dir.path().join("holes")).unwrap()) * 512;
    assert!(disk < 1 << 19, "{disk} bytes on the disk");
}

fn marks(root: &Path, names: &[&str]) -> Vec<bool> {
    let hidden = |name: &&str| fs::symlink_metadata(root.join(name)).is_ok_and(|m| m.file_type().is_char_device());
    names.iter().map(hidden).collect()
}

/// Whiteouts are about lower layers, wherever they stand (OCI image specification, "Whiteouts").
#[test]
fn what_a_layer_hides_and_has_may_come_in_any_order() {
    let (dir, file) = (EntryType::Directory, EntryType::Regular);
    for layer in [
        [
            ("d/", dir, ""),
            ("d/new", file, "x"),
            (".wh.d", file, ""),
            (".wh.gone", file, ""),
        ],
        [
            (".wh.d", file, ""),
            ("d/", dir, ""),
            ("d/new", file, "x"),
            (".wh.gone", file, ""),
        ],
        [
            (".wh.d", file, ""),
            ("d/new", file, "x"),
            (".wh.gone", file, ""),
            ("d/.wh.old", file, ""),
        ],
        [
            ("d/.wh..wh..opq", file, ""),
            ("d/new", file, "x"),
            ("d/", dir, ""),
            (".wh.gone", file, ""),
        ],
        [
            (".wh.gone", file, ""),
            ("gone/.wh.deep", file, ""),
            ("d/new", file, "x"),
            (".wh.d", file, ""),
        ],
    ] {
        let (root, result) = unpacked(&tar(&layer).unwrap()[..]);
        let notes = result.unwrap().notes;
        let root = root.path();
        assert_eq!(fs::read_to_string(root.join("d/new")).unwrap(), "x", "{layer:?}");
        assert!(crate::image::merged::is_opaque(&root.join("d")), "{layer:?}");
        assert!(notes.opaque.contains(Path::new("d")), "{layer:?}");
        assert_eq!(marks(root, &["gone", "d"]), [true, false], "{layer:?}");
    }
}

#[test]
fn folders_without_entries_are_noted_until_one_comes() {
    let (dir, file) = (EntryType::Directory, EntryType::Regular);
    let layer = tar(&[
        ("./a/b/f", file, "x"),
        ("/a/", dir, ""),
        ("c/d/e", file, "x"),
        ("c/d", file, "it becomes a file"),
        ("link", EntryType::Symlink, "to/there"),
        ("link/in", file, "x"),
    ]);
    let (root, result) = unpacked(&layer.unwrap()[..]);
    let implied = result.unwrap().notes.implied;
    let expected = ["a/b", "c", "to", "to/there"].map(PathBuf::from);
    assert_eq!(implied.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(fs::read_to_string(root.path().join("to/there/in")).unwrap(), "x");
}

#[test]
fn sizes_and_names_of_old_are_understood() {
    let mut folder = header("old", EntryType::Directory, 4096);
    folder.set_cksum();
    let mut slash = header("by-name/", EntryType::Regular, 0);
    slash.as_old_mut().linkflag = [0];
    slash.set_cksum();
    let mut blank = header("blank", EntryType::Regular, 1);
    let old = blank.as_old_mut();
    (old.uid, old.gid, old.mtime) = ([0; 8], [b' '; 8], [0; 12]);
    blank.set_cksum();
    let mut data = b"x".to_vec();
    data.resize(512, 0);
    let all = [&folder.as_bytes()[..], slash.as_bytes(), blank.as_bytes(), &data];
    let (root, result) = unpacked(&all.concat()[..]);
    assert_eq!(result.unwrap().size, 1);
    assert!(root.path().join("old").is_dir() && root.path().join("by-name").is_dir());
    assert_eq!(fs::read_to_string(root.path().join("blank")).unwrap(), "x");
}

#[test]
fn a_link_to_what_is_not_there_is_named() {
    let layer = tar(&[("a", EntryType::Regular, "x"), ("d/b", EntryType::Link, "d/none")]);
    refused(
        &layer.unwrap()[..],
        "d/b is a hard link to d/none, which the layer does not have",
    );
    let layer = tar(&[("a", EntryType::Regular, "x"), ("a/b", EntryType::Regular, "x")]);
    refused(&layer.unwrap()[..], "a is no folder, and something is to be in it");
    let layer = tar(&[
        ("a", EntryType::Regular, "x"),
        ("a", EntryType::Link, "a"),
        ("b/../c", EntryType::Regular, "y"),
    ]);
    let (root, result) = unpacked(&layer.unwrap()[..]);
    assert_eq!(result.unwrap().size, 2);
    assert!(root.path().join("a").is_file() && root.path().join("c").is_file());
}
