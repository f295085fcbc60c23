//! What the kernel says about a process.

use std::time::Duration;

/// CPU time that a process has used so far. The scheduler counts it in nanoseconds for each thread; threads that have
/// ended are missing there, so the coarser total of the process is taken where it is more.
pub(super) fn cpu(pid: u32) -> Duration {
    let fine: u64 = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| {
            let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        })
        .sum();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ticks = total_ticks(&stat).unwrap_or(0);
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let coarse = Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / per_second));
    let fine = Duration::from_nanos(fine);
    // One tick of difference is rounding.
    if coarse > fine + Duration::from_nanos(2_000_000_000 / per_second) {
        coarse
    } else {
        fine
    }
}

/// utime and stime of `/proc/<pid>/stat`.
fn total_ticks(stat: &str) -> Option<u64> {
    let mut fields = afloat_runtime::process::stat_fields(stat)?.skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident memory now, and the most that there was, in MiB.
pub(super) fn memory_mib(pid: u32) -> (f64, f64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_start_matches(':')
            .trim()
            .split(' ')
            .next()?
            .parse::<f64>()
            .ok()
    };
    let mib = |name: &str| field(name).unwrap_or(0.0) / 1024.0;
    (mib("VmRSS"), mib("VmHWM"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_of_a_process_with_a_strange_name() {
        let stat = "12 (a) b (c) S 1 12 12 0 -1 4194304 100 0 0 0 70 30 0 0 20 0 4 0 1 1 1";
        assert_eq!(total_ticks(stat), Some(100));
    }

    #[test]
    fn this_process_has_figures() {
        let (now, most) = memory_mib(std::process::id());
        assert!(now > 0.0 && most >= now);
        let before = cpu(std::process::id());
        let mut sum = 0_u64;
        while cpu(std::process::id()) == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
