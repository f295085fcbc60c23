//! Seccomp filters for containers: libcontainer's own need a C library, so the last step before the container's program,
//! which is ours to replace, installs them.
//!
//! Understands what [`crate::oci`] writes: deny some, allow the rest. Anything else is an error: a container never runs
//! with less protection than it was promised.

use std::collections::BTreeMap;
use std::path::Path;

use libcontainer::oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator, Spec};
use libcontainer::workload::default::DefaultExecutor;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

/// "There is no such call."
const ENOSYS: u32 = 38;

/// Starts a container's program, under its filter if it has one.
#[derive(Clone)]
pub(super) struct FilteredExecutor {
    default: DefaultExecutor,
    /// The container's profile: what libcontainer shows of a further command's configuration has none.
    profile: Option<LinuxSeccomp>,
}

impl FilteredExecutor {
    /// For a container, or a command in one, whose configuration this folder holds.
    pub(super) fn of_bundle(bundle: &Path) -> anyhow::Result<Self> {
        let spec = Spec::load(bundle.join("config.json"))?;
        Ok(Self {
            default: DefaultExecutor {},
            profile: spec.linux().as_ref().and_then(|linux| linux.seccomp().clone()),
        })
    }
}

impl Executor for FilteredExecutor {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        if let Some(profile) = &self.profile {
            for program in programs(profile).map_err(ExecutorError::Other)? {
                install(&program).map_err(|error| ExecutorError::Other(format!("seccomp: {error}")))?;
            }
        }
        self.default.exec(spec)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        if let Some(profile) = &self.profile {
            programs(profile).map_err(ExecutorValidationError::ArgValidationError)?;
        }
        self.default.validate(spec)
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// One program for each error number: the kernel takes the strictest answer of all.
fn programs(profile: &LinuxSeccomp) -> Result<Vec<BpfProgram>, String> {
    if profile.default_action() != LinuxSeccompAction::ScmpActAllow {
        return Err("seccomp: only profiles that allow by default are understood".to_owned());
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| format!("seccomp: {error}"))?;
    let mut by_error: BTreeMap<u32, Rules> = BTreeMap::new();
    for entry in profile.syscalls().iter().flatten() {
        if entry.action() != LinuxSeccompAction::ScmpActErrno {
            return Err("seccomp: only denials with an error number are understood".to_owned());
        }
        let rules = by_error.entry(entry.errno_ret().unwrap_or(1)).or_default();
        for name in entry.names() {
            let number = number(name).ok_or_else(|| format!("seccomp: unknown system call {name}"))?;
            let rule = rules.entry(number).or_default();
            let mut conditions = vec![];
            for arg in entry.args().iter().flatten() {
                if arg.op() != LinuxSeccompOperator::ScmpCmpMaskedEq {
                    return Err("seccomp: only masked arguments are understood".to_owned());
                }
                let index = u8::try_from(arg.index()).map_err(|error| error.to_string())?;
                let operator = SeccompCmpOp::MaskedEq(arg.value());
                let value = arg.value_two().unwrap_or_default();
                let condition = SeccompCondition::new(index, SeccompCmpArgLen::Qword, operator, value);
                conditions.push(condition.map_err(|error| error.to_string())?);
            }
            if !conditions.is_empty() {
                rule.push(SeccompRule::new(conditions).map_err(|error| error.to_string())?);
            }
        }
    }
    let mut programs = vec![];
    for (errno, rules) in by_error {
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno), arch);
        let program: BpfProgram = filter
            .and_then(TryInto::try_into)
            .map_err(|error| format!("seccomp: {error}"))?;
        programs.push(program);
    }
    if !programs.is_empty() && cfg!(target_arch = "x86_64") {
        programs.push(no_other_numbers());
    }
    Ok(programs)
}

/// Where the kernel has the x32 ABI, each system call has a second number, which a list of denied ones would not know (seccomp(2),
/// "Caveats"). Programs of that ABI do not run under a filter.
fn no_other_numbers() -> BpfProgram {
    let one = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        one(0x20, 0, 0, 0),           // the number of the call
        one(0x35, 0, 1, 0x4000_0000), // __X32_SYSCALL_BIT, or above
        one(0x06, 0, 0, libc::SECCOMP_RET_ERRNO | ENOSYS),
        one(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Without `no_new_privs`, which is the container's to choose: CAP_SYS_ADMIN is still there and ends with execve.
#[allow(unsafe_code)] // the library's own call would set no_new_privs
fn install(program: &BpfProgram) -> std::io::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(std::io::Error::other)?;
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel only reads the program, which lives through the call; both structures have its own layout.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if done == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// Number of a system call that the profile may name.
pub(crate) fn number(name: &str) -> Option<i64> {
    Some(match name {
        "acct" => libc::SYS_acct,
        "add_key" => libc::SYS_add_key,
        "adjtimex" => libc::SYS_adjtimex,
        "bpf" => libc::SYS_bpf,
        "chroot" => libc::SYS_chroot,
        "clock_adjtime" => libc::SYS_clock_adjtime,
        "clock_settime" => libc::SYS_clock_settime,
        "clone" => libc::SYS_clone,
        "clone3" => libc::SYS_clone3,
        "delete_module" => libc::SYS_delete_module,
        "fanotify_init" => libc::SYS_fanotify_init,
        "finit_module" => libc::SYS_finit_module,
        "fsconfig" => libc::SYS_fsconfig,
        "fsmount" => libc::SYS_fsmount,
        "fsopen" => libc::SYS_fsopen,
        "fspick" => libc::SYS_fspick,
        "get_mempolicy" => libc::SYS_get_mempolicy,
        "init_module" => libc::SYS_init_module,
        "io_uring_enter" => libc::SYS_io_uring_enter,
        "io_uring_register" => libc::SYS_io_uring_register,
        "io_uring_setup" => libc::SYS_io_uring_setup,
        "kcmp" => libc::SYS_kcmp,
        "kexec_file_load" => libc::SYS_kexec_file_load,
        "kexec_load" => libc::SYS_kexec_load,
        "keyctl" => libc::SYS_keyctl,
        #[cfg(target_arch = "x86_64")]
        "mknod" => libc::SYS_mknod,
        "mknodat" => libc::SYS_mknodat,
        "mbind" => libc::SYS_mbind,
        "mount" => libc::SYS_mount,
        "mount_setattr" => libc::SYS_mount_setattr,
        "move_mount" => libc::SYS_move_mount,
        "move_pages" => libc::SYS_move_pages,
        "open_by_handle_at" => libc::SYS_open_by_handle_at,
        "open_tree" => libc::SYS_open_tree,
        "perf_event_open" => libc::SYS_perf_event_open,
        "pivot_root" => libc::SYS_pivot_root,
        "process_vm_readv" => libc::SYS_process_vm_readv,
        "process_vm_writev" => libc::SYS_process_vm_writev,
        "quotactl" => libc::SYS_quotactl,
        "reboot" => libc::SYS_reboot,
        "request_key" => libc::SYS_request_key,
        "set_mempolicy" => libc::SYS_set_mempolicy,
        "setdomainname" => libc::SYS_setdomainname,
        "sethostname" => libc::SYS_sethostname,
        "setns" => libc::SYS_setns,
        "settimeofday" => libc::SYS_settimeofday,
        "swapoff" => libc::SYS_swapoff,
        "swapon" => libc::SYS_swapon,
        "syslog" => libc::SYS_syslog,
        "umount2" => libc::SYS_umount2,
        "unshare" => libc::SYS_unshare,
        "userfaultfd" => libc::SYS_userfaultfd,
        "vhangup" => libc::SYS_vhangup,
        _ => return None,
    })
}
