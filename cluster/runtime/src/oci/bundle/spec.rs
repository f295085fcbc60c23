//! `config.json` of a container (OCI runtime specification). Pure.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::seccomp;
use crate::container::{ContainerSpec, Mount};
use crate::runtime::RuntimeError;

/// What a container joins instead of having its own. None: the node's.
pub(crate) struct Joined {
    /// Its IPC namespace.
    pub(crate) ipc: Option<PathBuf>,
    /// The directory that is its `/dev/shm`.
    pub(crate) shared_memory: PathBuf,
    /// Its PID namespace.
    pub(crate) processes: Processes,
}

/// See [`crate::ProcessNamespace`].
pub(crate) enum Processes {
    /// One of its own.
    Own,
    /// This one.
    Of(PathBuf),
    /// The node's.
    Node,
}

/// What container runtimes give by default.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// In the order of their numbers (capabilities(7)).
const ALL_CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// The capability that installs seccomp filters, and its bit.
const INSTALLS_FILTERS: &str = "CAP_SYS_ADMIN";
const SYS_ADMIN: u64 = 1 << 21;
/// Hidden, as runc does.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Not to be written, as runc does.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What the machine adds to a [`ContainerSpec`].
pub(crate) struct Surroundings<'a> {
    /// Root file system.
    pub(crate) rootfs: &'a Path,
    /// Network namespace to join; None: that of the node.
    pub(crate) namespace: Option<&'a Path>,
    /// Host name.
    pub(crate) hostname: &'a str,
    /// Capabilities that the runtime itself has, as a bit set.
    pub(crate) own_capabilities: u64,
    /// What it has in common with the pod's other containers.
    pub(crate) joined: Joined,
    /// The highest group id that exists may be below 5, that of terminals.
    pub(crate) has_tty_group: bool,
    /// Nothing but its filter keeps it from devices of the machine.
    pub(crate) no_devices: bool,
    /// How many files the process may have open: soft and hard limit.
    pub(crate) open_files: (u64, u64),
    /// Where the sources of the specification's mounts are, in their order.
    pub(crate) sources: &'a [PathBuf],
}

/// The configuration of a container. No cgroup settings: limits are set by us, where they can be.
pub(crate) fn config(spec: &ContainerSpec, around: &Surroundings<'_>) -> Result<Value, RuntimeError> {
    let capabilities = capabilities(spec, around.own_capabilities)?;
    let mut at_start = capabilities.clone();
    let mut namespaces = vec![json!({ "type": "mount" }), json!({ "type": "uts" })];
    match &around.joined.processes {
        Processes::Own => namespaces.push(json!({ "type": "pid" })),
        Processes::Of(path) => namespaces.push(json!({ "type": "pid", "path": path })),
        Processes::Node => {}
    }
    if let Some(path) = &around.joined.ipc {
        namespaces.push(json!({ "type": "ipc", "path": path }));
    }
    if let Some(path) = around.namespace {
        namespaces.push(json!({ "type": "network", "path": path }));
    }
    let mut mounts = default_mounts(around, spec.privileged);
    for (mount, source) in spec.mounts.iter().zip(around.sources) {
        mounts.push(bind(mount, source, spec.privileged));
    }
    let mut linux = json!({ "namespaces": namespaces });
    if !spec.privileged
        && let Some(profile) = seccomp::profile(spec.seccomp, &capabilities, around.no_devices)
    {
        linux["seccomp"] = profile;
        // Needed to install the filter, gone with the start of the program: it is not in the bounding set.
        let installs = INSTALLS_FILTERS.to_owned();
        if !spec.no_new_privileges && around.own_capabilities & SYS_ADMIN != 0 && !at_start.contains(&installs) {
            at_start.push(installs);
            at_start.sort();
        }
    }
    if !spec.sysctls.is_empty() {
        linux["sysctl"] = json!(spec.sysctls);
    }
    if !spec.privileged {
        linux["maskedPaths"] = json!(MASKED);
        linux["readonlyPaths"] = json!(READ_ONLY);
    }
    let mut config = json!({
        "ociVersion": "1.0.2",
        "hostname": around.hostname,
        "root": { "path": around.rootfs, "readonly": spec.read_only_root },
        "mounts": mounts,
        "linux": linux,
        "process": {
            "terminal": spec.stdio.tty,
            "user": { "uid": spec.uid, "gid": spec.gid, "additionalGids": spec.additional_gids },
            "args": spec.args,
            "env": spec.env,
            "cwd": if spec.working_dir.is_empty() { "/" } else { &spec.working_dir },
            "noNewPrivileges": spec.no_new_privileges,
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": around.open_files.0, "hard": around.open_files.1 }],
            "capabilities": { "bounding": capabilities, "effective": at_start, "permitted": at_start },
        },
    });
    if spec.stdio.tty {
        name_terminal(&mut config["process"]);
    }
    Ok(config)
}

/// What programs need to know of a terminal, where nobody says otherwise.
fn name_terminal(process: &mut Value) {
    if let Some(env) = process["env"].as_array_mut()
        && !env.iter().any(|v| v.as_str().is_some_and(|v| v.starts_with("TERM=")))
    {
        env.push(json!("TERM=xterm"));
    }
}

/// A volume or file. Device nodes in it are only names: a device that a container is to have is in its `/dev`.
fn bind(mount: &Mount, source: &Path, privileged: bool) -> Value {
    let mut options = vec!["rbind", "rprivate", if mount.read_only { "ro" } else { "rw" }];
    if !privileged {
        options.push("rnodev");
    }
    json!({ "destination": mount.target, "type": "bind", "source": source, "options": options })
}

fn default_mounts(around: &Surroundings<'_>, privileged: bool) -> Vec<Value> {
    let system = if privileged { "rw" } else { "ro" };
    let mut terminals = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if around.has_tty_group {
        terminals.push("gid=5");
    }
    vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] }),
        json!({ "destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": terminals }),
        json!({ "destination": "/dev/shm", "type": "bind", "source": around.joined.shared_memory, "options": ["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"] }),
        json!({ "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"] }),
        json!({ "destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", system] }),
    ]
}

/// Sorted `CAP_…` names: the default set, with and without what was asked for, and never more than the runtime has.
fn capabilities(spec: &ContainerSpec, own: u64) -> Result<Vec<String>, RuntimeError> {
    let name = |wanted: &String| wanted.trim_start_matches("CAP_").to_ascii_uppercase();
    let add: Vec<String> = spec.add_capabilities.iter().map(name).collect();
    let drop: Vec<String> = spec.drop_capabilities.iter().map(name).collect();
    if let Some(unknown) = add
        .iter()
        .chain(&drop)
        .find(|c| *c != "ALL" && !ALL_CAPABILITIES.contains(&c.as_str()))
    {
        return Err(RuntimeError::Invalid(format!(
            "container {}: unknown capability {unknown:?}",
            spec.name
        )));
    }
    let all = |list: &[String]| list.iter().any(|c| c == "ALL");
    let given = ALL_CAPABILITIES.iter().enumerate().filter(|(number, cap)| {
        let start = spec.privileged || all(&add) || (DEFAULT_CAPABILITIES.contains(cap) && !all(&drop));
        let named = |list: &[String]| list.iter().any(|c| c == *cap);
        own & (1 << number) != 0 && (start || named(&add)) && !named(&drop)
    });
    let mut names: Vec<String> = given.map(|(_, cap)| format!("CAP_{cap}")).collect();
    names.sort();
    Ok(names)
}

/// `process.json` of a command inside of a container: the container's own process with another command.
pub(crate) fn exec_process(config: &Value, command: &[String], tty: bool) -> Value {
    let mut process = config["process"].clone();
    process["args"] = json!(command);
    process["terminal"] = json!(tty);
    if tty {
        name_terminal(&mut process);
    }
    process
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::container::Seccomp;

    pub(crate) fn spec() -> ContainerSpec {
        ContainerSpec {
            pod_uid: "u".into(),
            pod: "d/p".into(),
            name: "c".into(),
            attempt: 0,
            image_id: "sha256:0".into(),
            args: vec!["/app".into()],
            env: vec!["PATH=/bin".into()],
            working_dir: String::new(),
            uid: 0,
            gid: 0,
            additional_gids: vec![],
            mounts: vec![Mount {
                source: "/a".into(),
                found: None,
                target: "/b".into(),
                read_only: true,
            }],
            read_only_root: true,
            privileged: false,
            add_capabilities: vec![],
            drop_capabilities: vec![],
            no_new_privileges: true,
            seccomp: Seccomp::Unconfined,
            sysctls: std::collections::BTreeMap::new(),
            resources: crate::cgroup::Resources::default(),
            stdio: Default::default(),
            process_namespace_of: None,
            log_path: "/log".into(),
            labels: std::collections::BTreeMap::new(),
        }
    }

    fn joined() -> Joined {
        Joined {
            ipc: Some("/run/ipcns/u".into()),
            shared_memory: "/shm".into(),
            processes: Processes::Own,
        }
    }

    fn around(sources: &[PathBuf]) -> Surroundings<'_> {
        Surroundings {
            rootfs: Path::new("/r"),
            namespace: None,
            hostname: "p",
            joined: joined(),
            own_capabilities: u64::MAX,
            has_tty_group: false,
            no_devices: false,
            open_files: (1024, 4096),
            sources,
        }
    }

    fn names(add: &[&str], drop: &[&str], own: u64) -> Vec<String> {
        let mut spec = spec();
        spec.add_capabilities = add.iter().map(ToString::to_string).collect();
        spec.drop_capabilities = drop.iter().map(ToString::to_string).collect();
        capabilities(&spec, own).unwrap_or_default()
    }

    #[test]
    fn capabilities_are_what_was_asked_for_and_owned() {
        assert_eq!(names(&[], &[], u64::MAX).len(), DEFAULT_CAPABILITIES.len());
        assert_eq!(
            names(&["NET_BIND_SERVICE"], &["ALL"], u64::MAX),
            ["CAP_NET_BIND_SERVICE"]
        );
        assert_eq!(names(&["ALL"], &["CAP_SYS_ADMIN"], u64::MAX).len(), 40);
        assert_eq!(names(&[], &[], 1), ["CAP_CHOWN"]);
        assert!(names(&["FLY"], &[], u64::MAX).is_empty());
    }

    #[test]
    fn a_filter_needs_a_capability_that_the_program_does_not_get() {
        let mut around = around(&[]);
        let mut spec = spec();
        spec.seccomp = Seccomp::RuntimeDefault;
        spec.no_new_privileges = false;
        let admin = |config: &Value, set: &str| {
            let set = config["process"]["capabilities"][set].as_array().cloned();
            set.unwrap_or_default().contains(&json!("CAP_SYS_ADMIN"))
        };
        let filtered = config(&spec, &around).unwrap_or_default();
        assert_eq!(filtered["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
        assert!(admin(&filtered, "effective") && !admin(&filtered, "bounding"));
        spec.no_new_privileges = true;
        assert!(!admin(&config(&spec, &around).unwrap_or_default(), "effective"));
        spec.seccomp = Seccomp::Unconfined;
        around.no_devices = true;
        let devices = config(&spec, &around).unwrap_or_default();
        assert!(devices["linux"]["seccomp"].to_string().contains("mknodat"), "{devices}");
        spec.privileged = true;
        let privileged = config(&spec, &around).unwrap_or_default();
        assert!(
            privileged["linux"]["seccomp"].is_null(),
            "privileged containers have none"
        );
    }

    #[test]
    fn the_configuration_says_what_the_spec_says() {
        let sources = [PathBuf::from("/staged/0")];
        let around = Surroundings {
            namespace: Some(Path::new("/run/netns/u")),
            ..around(&sources)
        };
        let privileged = ContainerSpec {
            privileged: true,
            ..spec()
        };
        let open = config(&privileged, &around).unwrap_or_default();
        assert_eq!(open["mounts"][6]["options"], json!(["rbind", "rprivate", "ro"]));
        let config = config(&spec(), &around).unwrap_or_default();
        assert_eq!(config["process"]["cwd"], "/");
        assert_eq!(config["root"], json!({ "path": "/r", "readonly": true }));
        assert!(config["linux"]["resources"].is_null(), "resources need a cgroup");
        assert_eq!(config["mounts"][6]["source"], "/staged/0");
        assert_eq!(
            config["mounts"][6]["options"],
            json!(["rbind", "rprivate", "ro", "rnodev"])
        );
        assert_eq!(config["process"]["rlimits"][0]["soft"], 1024);
        assert!(config["linux"]["seccomp"].is_null(), "no profile, no filter");
        let process = exec_process(&config, &["sh".into()], true);
        assert_eq!(process["args"], json!(["sh"]));
        assert_eq!(process["env"], json!(["PATH=/bin", "TERM=xterm"]));
    }
}
