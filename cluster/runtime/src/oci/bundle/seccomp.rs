//! The seccomp profile `RuntimeDefault` of this runtime: what is kept from containers, as the OCI specification writes it.
//!
//! A list of what is denied, not of what is allowed: the system calls that Docker's documentation names as significant
//! ("Seccomp security profiles for Docker"), those of io_uring besides, each unless the container has the capability
//! that it is for. Pure.

use serde_json::{Value, json};

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

/// `linux.seccomp` for a container that has these capabilities.
pub(crate) fn runtime_default(capabilities: &[String]) -> Value {
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
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(capabilities: &[&str]) -> Vec<String> {
        let capabilities: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
        let profile = runtime_default(&capabilities);
        let rules = profile["syscalls"].as_array().cloned().unwrap_or_default();
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
            assert!(crate::host::seccomp::number(&name).is_some(), "{name}");
        }
    }
}
