//! What a container may use, and what that is in the files of cgroups. Pure.

/// The period that [`Resources::cpu_quota_us`] is a part of, as Kubernetes has it.
pub const CPU_PERIOD_US: u64 = 100_000;

/// Kernels count what weights are between (cgroups v1: shares).
const SHARES: (u64, u64) = (2, 262_144);

/// What a container may use. None: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Bytes of memory; beyond them the kernel kills.
    pub memory_limit_bytes: Option<u64>,
    /// Weight among its neighbours, 1024 for one CPU (cgroups v1: `cpu.shares`).
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time in [`CPU_PERIOD_US`].
    pub cpu_quota_us: Option<u64>,
    /// Processes and threads.
    pub pids_limit: Option<u64>,
}

/// One setting of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) value: String,
    /// Without it the limit does not hold.
    pub(super) vital: bool,
}

pub(super) fn vital(file: &'static str, value: impl ToString) -> Setting {
    Setting {
        file,
        value: value.to_string(),
        vital: true,
    }
}

/// For what some kernels lack (swap accounting).
pub(super) fn optional(file: &'static str, value: impl ToString) -> Setting {
    Setting {
        vital: false,
        ..vital(file, value)
    }
}

/// No swap beyond the limit, as Kubernetes has it by default.
pub(super) fn memory_v1(resources: &Resources) -> Vec<Setting> {
    resources.memory_limit_bytes.map_or_else(Vec::new, |bytes| {
        vec![
            vital("memory.limit_in_bytes", bytes),
            optional("memory.memsw.limit_in_bytes", bytes),
        ]
    })
}

pub(super) fn cpu_v1(resources: &Resources) -> Vec<Setting> {
    let shares = resources
        .cpu_shares
        .map(|shares| vital("cpu.shares", shares.clamp(SHARES.0, SHARES.1)));
    let mut settings: Vec<Setting> = shares.into_iter().collect();
    if let Some(quota) = resources.cpu_quota_us {
        settings.push(vital("cpu.cfs_period_us", CPU_PERIOD_US));
        settings.push(vital("cpu.cfs_quota_us", quota));
    }
    settings
}

pub(super) fn pids_max(resources: &Resources) -> Vec<Setting> {
    resources
        .pids_limit
        .map(|limit| vital("pids.max", limit))
        .into_iter()
        .collect()
}

/// One process killed for memory takes the whole container along, as the kubelet sets it on cgroups v2.
pub(super) fn settings_v2(controllers: &[String], resources: &Resources) -> Vec<Setting> {
    let has = |name: &str| controllers.iter().any(|c| c == name);
    let mut settings = vec![];
    if let Some(bytes) = resources.memory_limit_bytes.filter(|_| has("memory")) {
        settings.push(vital("memory.max", bytes));
        settings.push(optional("memory.swap.max", 0));
        settings.push(optional("memory.oom.group", 1));
    }
    if has("cpu") {
        settings.extend(
            resources
                .cpu_shares
                .map(|shares| vital("cpu.weight", weight_of_shares(shares))),
        );
        settings.extend(
            resources
                .cpu_quota_us
                .map(|quota| vital("cpu.max", format!("{quota} {CPU_PERIOD_US}"))),
        );
    }
    if has("pids") {
        settings.extend(pids_max(resources));
    }
    settings
}

/// Shares 2 to 262144 become weights 1 to 10000, in the line that container runtimes draw.
pub(super) fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(SHARES.0, SHARES.1) - SHARES.0) * 9_999 / (SHARES.1 - SHARES.0)
}
