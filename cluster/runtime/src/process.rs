//! What the kernel tells of a process.

/// The fields of `/proc/PID/stat` after the process' name, which may hold anything: the state first, field 3 of
/// proc_pid_stat(5). None: that is no such line.
pub fn stat_fields(stat: &str) -> Option<std::str::SplitAsciiWhitespace<'_>> {
    stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace())
}

/// The letter of a process' state: R, S, D, Z (ended, nobody has waited for it), X… None: there is no such process.
pub fn state(pid: &str) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat_fields(&stat)?.next()?.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let mut fields = stat_fields("42 (a) Z (b c) S 1 42").unwrap();
        assert_eq!((fields.next(), fields.next()), (Some("S"), Some("1")));
        assert!(stat_fields("").is_none());
    }

    #[test]
    fn this_process_runs_and_no_other_has_no_number() {
        assert!(state("self").is_some_and(|state| "RSD".contains(state)));
        assert_eq!(state("no number"), None);
    }
}
