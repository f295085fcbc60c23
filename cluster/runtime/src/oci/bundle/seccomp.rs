//! The seccomp profile `RuntimeDefault` of this runtime: what is kept from containers, as the OCI specification writes it.
//!
//! A list of what is denied, not of what is allowed: the system calls that Docker's documentation names as significant
//! ("Seccomp security profiles for Docker"), those of io_uring besides, each unless the container has the capability
//! that it is for. Pure.

use serde_json::{Value, json};

use crate::container::Seccomp;
use crate::host::seccomp::number;

/// New namespaces, in the flags of clone(2).
const NAMESPACE_FLAGS: [u64; 7] = [
    0x0002_0000, // CLONE_NEWNS
    0x0200_0000, // CLONE_NEWCGROUP
    0x0400_0000, // CLONE_NEWUTS
    0x0800_0000, // CLONE_NEWIPC
    0x1000_0000, // CLONE_NEWUSER
    0x2000_0000, // CLONE_NEWPID
    0x4000_0000, // CLONE_NEWNET
];
const EPERM: u32 = 1;
/// What a C library takes as "use the older call", whose flags can be looked at.
const ENOSYS: u32 = 38;

/// Never allowed: keys and kernels are the machine's.
const NEVER: &[&str] = &[
    "add_key",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "pivot_root",
    "request_key",
    "swapoff",
    "swapon",
    "userfaultfd",
];
/// Allowed to those who have one of these capabilities.
const WITH: &[(&[&str], &[&str])] = &[
    (
        &["CAP_SYS_ADMIN"],
        &[
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "quotactl",
            "setdomainname",
            "sethostname",
            "setns",
            "umount2",
            "unshare",
        ],
    ),
    (&["CAP_SYS_ADMIN", "CAP_BPF"], &["bpf"]),
    (&["CAP_SYS_ADMIN", "CAP_PERFMON"], &["perf_event_open"]),
    (&["CAP_DAC_READ_SEARCH"], &["open_by_handle_at"]),
    (&["CAP_SYS_BOOT"], &["reboot"]),
    (&["CAP_SYS_CHROOT"], &["chroot"]),
    (&["CAP_SYS_MODULE"], &["delete_module", "finit_module", "init_module"]),
    (
        &["CAP_SYS_NICE"],
        &["get_mempolicy", "mbind", "move_pages", "set_mempolicy"],
    ),
    (&["CAP_SYS_PACCT"], &["acct"]),
    (&["CAP_SYS_PTRACE"], &["kcmp", "process_vm_readv", "process_vm_writev"]),
    (
        &["CAP_SYS_TIME"],
        &["adjtimex", "clock_adjtime", "clock_settime", "settimeofday"],
    ),
    (&["CAP_SYS_TTY_CONFIG"], &["vhangup"]),
    (&["CAP_SYSLOG"], &["syslog"]),
];

/// Kinds of files in a mode, and those of them that are devices (inode(7)).
const KIND: u32 = 0o170_000;
const DEVICES: [u32; 2] = [0o060_000, 0o020_000];

/// `linux.seccomp` for a container that has these capabilities; None: it has no filter. `no_devices`: it may make no device, as nothing
/// else here would keep it from opening one.
pub(crate) fn profile(seccomp: Seccomp, capabilities: &[String], no_devices: bool) -> Option<Value> {
    let mut rules = match seccomp {
        Seccomp::RuntimeDefault => runtime_default(capabilities),
        Seccomp::Unconfined => vec![],
    };
    if no_devices {
        rules.extend(refused_devices());
    }
    (!rules.is_empty()).then(|| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }))
}

/// mknod(2), where the machine has it, and mknodat(2): pipes, sockets and files may still be made.
fn refused_devices() -> impl Iterator<Item = Value> {
    let calls = [("mknod", 1), ("mknodat", 2)];
    let calls = calls.into_iter().filter(|(name, _)| number(name).is_some());
    calls.flat_map(|(name, index)| {
        DEVICES.map(|kind| {
            json!({
                "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM,
                "args": [{ "index": index, "value": KIND, "valueTwo": kind, "op": "SCMP_CMP_MASKED_EQ" }],
            })
        })
    })
}

fn runtime_default(capabilities: &[String]) -> Vec<Value> {
    let has = |wanted: &&[&str]| wanted.iter().any(|cap| capabilities.iter().any(|own| own == cap));
    let mut names: Vec<&str> = NEVER.to_vec();
    names.extend(WITH.iter().filter(|(caps, _)| !has(caps)).flat_map(|(_, names)| *names));
    names.sort_unstable();
    let mut rules = vec![json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM })];
    if !has(&&["CAP_SYS_ADMIN"][..]) {
        rules.extend(NAMESPACE_FLAGS.iter().map(|flag| {
            json!({
                "names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM,
                "args": [{ "index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ" }],
            })
        }));
        rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(capabilities: &[&str]) -> Vec<String> {
        let capabilities: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
        let rules = runtime_default(&capabilities);
        let names = rules
            .iter()
            .flat_map(|rule| rule["names"].as_array().cloned().unwrap_or_default());
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }

    #[test]
    fn capabilities_open_what_they_are_for() {
        let none = denied(&[]);
        for name in ["mount", "unshare", "clone", "clone3", "keyctl", "bpf", "reboot"] {
            assert!(none.iter().any(|n| n == name), "{name}");
        }
        assert!(!none.iter().any(|n| n == "read" || n == "execve" || n == "ptrace"));
        let admin = denied(&["CAP_SYS_ADMIN"]);
        for name in ["mount", "clone", "clone3", "bpf"] {
            assert!(!admin.iter().any(|n| n == name), "{name}");
        }
        assert!(admin.iter().any(|n| n == "keyctl") && admin.iter().any(|n| n == "reboot"));
    }

    #[test]
    fn every_name_is_known_to_the_filter() {
        for name in denied(&[]) {
            assert!(number(&name).is_some(), "{name}");
        }
    }

    #[test]
    fn devices_are_refused_where_nothing_else_does_it() {
        assert!(profile(Seccomp::Unconfined, &[], false).is_none());
        let refused = profile(Seccomp::Unconfined, &[], true).unwrap_or_default();
        let rules = refused["syscalls"].as_array().map(Vec::len);
        assert!(matches!(rules, Some(2 | 4)), "{refused}");
        let both = profile(Seccomp::RuntimeDefault, &[], true)
            .unwrap_or_default()
            .to_string();
        assert!(both.contains("mknodat") && both.contains("keyctl"));
    }
}
