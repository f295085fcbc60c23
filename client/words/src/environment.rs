//! Variables of a process: what it was started with, as the kernel and the OCI runtime's configuration write it.

use std::collections::BTreeMap;

/// From `NAME=value` each; of two of one name the first is the one that programs find.
pub fn variables<'a>(entries: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, value) in entries.into_iter().filter_map(|entry| entry.split_once('=')) {
        all.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    all
}

/// From the bytes of `/proc/PID/environ`: each ended by a zero (proc_pid_environ(5)).
pub fn of_process(environ: &[u8]) -> BTreeMap<String, String> {
    variables(String::from_utf8_lossy(environ).split('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_and_the_first_counts() {
        let read = of_process(b"A=1\0B=x=y\0\0A=2\0C\0D=");
        let told: Vec<_> = read.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        assert_eq!(told, ["A:1", "B:x=y", "D:"]);
        assert!(of_process(b"").is_empty());
    }
}
