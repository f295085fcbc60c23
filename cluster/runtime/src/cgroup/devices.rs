//! Which devices the processes of containers may use: those that the OCI runtime specification has in every container ("Default
//! Devices"), as runc allows them (1.2; 1.1 had `/dev/net/tun` besides). A node of any other may be made (`m`), but not be opened.
//!
//! On cgroups v1 by the controller `devices`, on v2 by a program in the kernel. The rules are data, the program is made of them; only
//! [`guard_v2`] talks to the kernel.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::path::Path;

use nix::libc;

/// The cgroup, on v1, of all processes but those of privileged containers.
pub(crate) const CONTAINED: &str = "contained";

/// Major and minor numbers of character devices; None: all of the major number.
const ALLOWED: [(u32, Option<u32>); 8] = [
    (1, Some(3)), // null
    (1, Some(5)), // zero
    (1, Some(7)), // full
    (1, Some(8)), // random
    (1, Some(9)), // urandom
    (5, Some(0)), // tty
    (5, Some(2)), // ptmx
    (136, None),  // pts
];

/// What is written to `devices.allow` after everything was denied.
pub(crate) fn rules_v1() -> Vec<String> {
    let number = |minor: Option<u32>| minor.map_or("*".to_owned(), |minor| minor.to_string());
    let made = ["c *:* m", "b *:* m"].map(str::to_owned);
    let used = ALLOWED.map(|(major, minor)| format!("c {major}:{} rwm", number(minor)));
    made.into_iter().chain(used).collect()
}

/// Denies everything else to the processes of a cgroup of the controller `devices`, which has none yet.
///
/// # Errors
/// It may not be written.
pub(crate) fn guard_v1(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("devices.deny"), "a")?;
    rules_v1()
        .iter()
        .try_for_each(|rule| fs::write(dir.join("devices.allow"), rule))
}

/// One instruction (`struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the lower half, source in the upper.
    registers: u8,
    offset: i16,
    value: i32,
}

/// The access in the upper half of a word, the kind of device in the lower (`struct bpf_cgroup_dev_ctx`).
const MKNOD: i32 = 1;
const CHARACTER: i32 = 2;

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE: u8 = 0xb7;
const COPY: u8 = 0xbf;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// The same rules as a program. Its answer is 1 (allowed) or 0.
fn program() -> Vec<Instruction> {
    let one = |code, registers, offset, value| Instruction {
        code,
        registers,
        offset,
        value,
    };
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let mut all = vec![
        one(LOAD_WORD, 0x12, 0, 0), // r2 = access and kind
        one(LOAD_WORD, 0x14, 4, 0), // r4 = major
        one(LOAD_WORD, 0x15, 8, 0), // r5 = minor
        one(COPY, 0x23, 0, 0),      // r3 = r2
        one(SHIFT_RIGHT, 0x03, 0, 16),
        one(AND, 0x02, 0, 0xffff),
        one(MOVE, 0x00, 0, 1),
        one(JUMP_UNLESS_EQUAL, 0x03, 1, MKNOD),
        one(EXIT, 0, 0, 0),
        one(JUMP_IF_EQUAL, 0x02, 2, CHARACTER),
        one(MOVE, 0x00, 0, 0),
        one(EXIT, 0, 0, 0),
    ];
    for (major, minor) in ALLOWED {
        if let Some(minor) = minor {
            all.push(one(JUMP_UNLESS_EQUAL, 0x04, 2, number(major)));
            all.push(one(JUMP_UNLESS_EQUAL, 0x05, 1, number(minor)));
        } else {
            all.push(one(JUMP_UNLESS_EQUAL, 0x04, 1, number(major)));
        }
        all.push(one(EXIT, 0, 0, 0));
    }
    all.push(one(MOVE, 0x00, 0, 0));
    all.push(one(EXIT, 0, 0, 0));
    all
}

/// As [`guard_v1`], for a cgroup of the unified hierarchy and those below it.
///
/// # Errors
/// The kernel refuses: without root, or without CONFIG_CGROUP_BPF.
pub(crate) fn guard_v2(dir: &Path) -> io::Result<()> {
    let dir = fs::File::open(dir)?;
    let program = load(&program())?;
    let attach = Attach {
        target: dir.as_raw_fd(),
        program: program.as_raw_fd(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &attach).map(drop)
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
/// `BPF_PROG_TYPE_CGROUP_DEVICE`
const PROGRAM_KIND: u32 = 15;
/// `BPF_CGROUP_DEVICE`
const CGROUP_DEVICE: u32 = 6;
/// Programs of cgroups above hold as well.
const ALLOW_MULTI: u32 = 2;

/// What bpf(2) reads of its `union bpf_attr` to load a program.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: *const Instruction,
    license: *const libc::c_char,
    log: [u64; 3],
}

/// The same, to attach one.
#[repr(C)]
struct Attach {
    target: libc::c_int,
    program: libc::c_int,
    kind: u32,
    flags: u32,
}

#[allow(unsafe_code)] // a descriptor that the kernel has just made
fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let load = Load {
        kind: PROGRAM_KIND,
        count: u32::try_from(program.len()).map_err(io::Error::other)?,
        instructions: program.as_ptr(),
        license: c"".as_ptr(),
        log: [0; 3],
    };
    let fd = bpf(PROG_LOAD, &load)?;
    // SAFETY: the call has made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[allow(unsafe_code)] // bpf(2) has no wrapper
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads as much of the structure as it is told, and what that points to; all of it lives through the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match libc::c_int::try_from(answer) {
        Ok(answer) if answer >= 0 => Ok(answer),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel does.
    fn answer(access: i32, kind: i32, major: i32, minor: i32) -> i32 {
        let (program, mut registers, mut at) = (program(), [0_i32; 6], 0_usize);
        loop {
            let Instruction {
                code,
                registers: used,
                offset,
                value,
            } = program[at];
            let (to, from) = (usize::from(used & 15), usize::from(used >> 4));
            at += 1;
            match code {
                LOAD_WORD => registers[to] = [access << 16 | kind, major, minor][usize::try_from(offset / 4).unwrap()],
                COPY => registers[to] = registers[from],
                MOVE => registers[to] = value,
                SHIFT_RIGHT => registers[to] >>= value,
                AND => registers[to] &= value,
                JUMP_IF_EQUAL if registers[to] == value => at += usize::try_from(offset).unwrap(),
                JUMP_UNLESS_EQUAL if registers[to] != value => at += usize::try_from(offset).unwrap(),
                JUMP_IF_EQUAL | JUMP_UNLESS_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn only_the_usual_devices_are_opened_and_all_may_be_made() {
        let (mknod, read, write, block, character) = (1, 2, 4, 1, 2);
        for (major, minor) in [
            (1, 3),
            (1, 5),
            (1, 7),
            (1, 8),
            (1, 9),
            (5, 0),
            (5, 2),
            (136, 0),
            (136, 99),
        ] {
            assert_eq!(answer(read | write, character, major, minor), 1, "{major}:{minor}");
            assert_eq!(answer(read | write, block, major, minor), 0, "block {major}:{minor}");
        }
        for (major, minor) in [
            (1, 1),
            (1, 2),
            (1, 4),
            (1, 11),
            (5, 1),
            (5, 3),
            (8, 0),
            (10, 200),
            (10, 237),
            (254, 0),
            (137, 3),
        ] {
            for access in [read, write, read | write, mknod | read] {
                assert_eq!(answer(access, character, major, minor), 0, "{major}:{minor}");
                assert_eq!(answer(access, block, major, minor), 0, "{major}:{minor}");
            }
            assert_eq!(answer(mknod, block, major, minor), 1, "{major}:{minor}");
        }
    }

    #[test]
    fn rules_are_written_as_the_kernel_wants_them() {
        let rules = rules_v1();
        assert_eq!(rules[..3], ["c *:* m", "b *:* m", "c 1:3 rwm"]);
        assert_eq!(rules.last().map(String::as_str), Some("c 136:* rwm"));
    }

    /// Where there is a unified hierarchy that may be written, as on most machines with root.
    #[test]
    fn the_kernel_obeys_the_program() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let unified = mounts.lines().find(|line| line.contains(" - cgroup2 "));
        let Some(parent) = unified.and_then(|line| line.split(' ').nth(4)) else {
            return;
        };
        let dir = Path::new(parent).join(format!("afloat-test-{}", std::process::id()));
        // Any device that is not on the list.
        let other = ["/dev/loop-control", "/dev/kmsg", "/dev/mem"]
            .into_iter()
            .find(|path| fs::File::open(path).is_ok());
        let Some(other) = other.filter(|_| fs::create_dir(&dir).is_ok()) else {
            return;
        };
        let opens = |path: &str| {
            let script = format!("echo 0 > {}/cgroup.procs && : < {path}", dir.display());
            let status = std::process::Command::new("sh").args(["-c", &script]).status();
            status.is_ok_and(|status| status.success())
        };
        let before = opens(other);
        let guarded = guard_v2(&dir);
        let after = (opens(other), opens("/dev/null"), opens("/dev/urandom"));
        while fs::remove_dir(&dir).is_err_and(|error| error.raw_os_error() == Some(libc::EBUSY)) {}
        guarded.unwrap();
        assert!(before && after == (false, true, true), "{other}: {before} {after:?}");
    }
}
