//! Pages of the program's own file, and of the libraries that it uses: code, tables, constants. Half of a large program is mapped
//! once it has started, as the kernel maps the neighbours of each page that is needed and nobody gives back what only the start
//! needed; and all of it counts as memory of the process.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::ioctl::{Updater, ioctl, opcode};
use rustix::mm::{Advice, UserfaultfdFlags, madvise, userfaultfd};

/// Lets go of all pages that hold nothing but what is in a file. Those that are needed come back, a neighbourhood at a time, from the
/// page cache as long as the machine has memory. Takes a few milliseconds, so not for async threads.
///
/// # Errors
/// `/proc` cannot be read, or the kernel refuses.
#[allow(unsafe_code)] // madvise can do other things, too
pub fn release_pages() -> std::io::Result<()> {
    for range in mappings()? {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: none of these pages differs from its file, and none can come to, as they are not writable: whoever uses one
        // again finds the same bytes.
        unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) }?;
    }
    Ok(())
}

/// Asks the kernel to map each of these pages when it is used and not its neighbours with it, which with large folios in the page
/// cache may be megabytes. For as long as the descriptor is open.
///
/// There is no call for that, but one that has it as a side effect: where userfaultfd(2) may be told of writes, the kernel
/// maps singly. No page of ours is ever protected by it, so nobody is told of anything.
///
/// # Errors
/// The kernel is older than 6.7, or a filter keeps the call from this process, as those of container runtimes do.
#[allow(unsafe_code)] // ioctls are what their numbers say
pub fn map_singly() -> std::io::Result<OwnedFd> {
    let descriptor = userfault()?;
    let mut api = Api {
        api: 0xAA,
        features: WP_ASYNC,
        ioctls: 0,
    };
    // SAFETY: UFFDIO_API reads and writes this structure and nothing else.
    unsafe {
        ioctl(
            &descriptor,
            Updater::<{ opcode::read_write::<Api>(0xAA, 0x3F) }, Api>::new(&mut api),
        )
    }?;
    for range in mappings()? {
        let mut register = Register {
            start: range.start as u64,
            length: range.len() as u64,
            mode: WRITES,
            ioctls: 0,
        };
        // SAFETY: UFFDIO_REGISTER reads and writes this structure. It lets a reader of the descriptor see faults on pages that
        // were protected by it, of which there are none.
        unsafe {
            let request = Updater::<{ opcode::read_write::<Register>(0xAA, 0x00) }, Register>::new(&mut register);
            ioctl(&descriptor, request)
        }?;
    }
    Ok(descriptor)
}

/// `UFFD_FEATURE_WP_ASYNC`: the kernel resolves such faults by itself. Only with it mappings of files may be registered.
const WP_ASYNC: u64 = 1 << 15;
/// `UFFDIO_REGISTER_MODE_WP`.
const WRITES: u64 = 2;
/// `UFFD_USER_MODE_ONLY`, which needs no privilege.
const USER_MODE_ONLY: u32 = 1;

/// `struct uffdio_api`.
#[repr(C)]
struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`.
#[repr(C)]
struct Register {
    start: u64,
    length: u64,
    mode: u64,
    ioctls: u64,
}

#[allow(unsafe_code)] // who reads the descriptor may hold up threads of this process
fn userfault() -> std::io::Result<OwnedFd> {
    let flags =
        UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK | UserfaultfdFlags::from_bits_retain(USER_MODE_ONLY);
    // SAFETY: nobody reads it, and with WP_ASYNC nobody needs to.
    Ok(unsafe { userfaultfd(flags) }?)
}

/// Where in the address space such pages are. Looked up once, as it takes milliseconds: what is loaded at the start stays where it
/// is, and what is loaded later is not let go.
fn mappings() -> std::io::Result<&'static [Range<usize>]> {
    static FOUND: OnceLock<Vec<Range<usize>>> = OnceLock::new();
    if let Some(found) = FOUND.get() {
        return Ok(found);
    }
    let found = of_files(&std::fs::read_to_string("/proc/self/smaps")?);
    Ok(FOUND.get_or_init(|| found))
}

/// The same by proc_pid_smaps(5): mappings of files, private, not writable, and without a page
/// that was written before it was protected (the dynamic linker does that).
fn of_files(smaps: &str) -> Vec<Range<usize>> {
    let mut found = vec![];
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(size) = line.strip_prefix("Anonymous:") {
            found.extend(candidate.take().filter(|_| size.trim() == "0 kB"));
        } else if let Some(mapping) = mapping(line) {
            candidate = mapping;
        }
    }
    found
}

/// The first line of a mapping: its place where it may be let go. None: another line.
fn mapping(line: &str) -> Option<Option<Range<usize>>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |text| usize::from_str_radix(text, 16).ok();
    let range = address(start)?..address(end)?;
    let (access, path) = (fields.next()?, fields.nth(3));
    let ours = matches!(access, "r--p" | "r-xp") && path.is_some_and(|path| path.starts_with('/'));
    Some(ours.then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_in_files_is_let_go() {
        let smaps = "\
1000-2000 r--p 00000000 fe:00 12 /opt/a b/afloat
Size:                  4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
2000-5000 r-xp 00001000 fe:00 12 /opt/a b/afloat
Anonymous:             0 kB
5000-6000 r--p 00004000 fe:00 12 /opt/a b/afloat
Anonymous:             4 kB
6000-7000 rw-p 00005000 fe:00 12 /opt/a b/afloat
Anonymous:             0 kB
7000-8000 r--s 00000000 fe:00 13 /usr/share/cache
Anonymous:             0 kB
8000-9000 r--p 00000000 00:00 0
Anonymous:             0 kB
9000-a000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
";
        assert_eq!(of_files(smaps), [0x1000..0x2000, 0x2000..0x5000]);
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        assert!(of_files(&std::fs::read_to_string("/proc/self/smaps").unwrap()).len() > 1);
        release_pages().unwrap();
        assert_eq!("still here".to_uppercase(), "STILL HERE");
        let mapped = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("RssFile:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        };
        let before = mapped();
        match map_singly() {
            Ok(_descriptor) => {
                release_pages().unwrap();
                let after = mapped();
                eprintln!("{before} KiB, then {after} KiB");
                assert!(after <= before, "{before} KiB, then {after} KiB");
            }
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
