//! What containers use: from their cgroups where they have some, else from the kernel's figures of their processes.

use std::collections::BTreeMap;
use std::fs;

use super::shared::Shared;
use crate::container::{ContainerState, Usage};
use crate::runtime::RuntimeError;

/// What the kernel says of one process. Times in ticks, with those of ended children that it waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Process {
    parent: i32,
    ticks: u64,
    pages: u64,
    shared_pages: u64,
}

impl Shared {
    /// By container id, of those that run. Blocks.
    pub(super) fn usage(&self) -> Result<BTreeMap<String, Usage>, RuntimeError> {
        let running: Vec<(String, i32)> = {
            let containers = self.containers();
            let records = containers.values().map(|entry| &entry.record);
            records
                .filter(|record| record.state() == ContainerState::Running)
                .filter_map(|record| Some((record.id.clone(), record.pid?)))
                .collect()
        };
        if running.is_empty() {
            return Ok(BTreeMap::new());
        }
        let processes = processes();
        let second = rustix::param::clock_ticks_per_second().max(1);
        let page = rustix::param::page_size() as u64;
        let usage = |(id, pid): (String, i32)| {
            let sum = tree(&processes, pid);
            let counted = self.cgroups.usage(&id);
            let usage = Usage {
                cpu_ns: counted
                    .cpu_ns
                    .unwrap_or_else(|| sum.ticks.saturating_mul(1_000_000_000 / second)),
                memory_bytes: counted.memory_bytes.unwrap_or(sum.pages * page),
            };
            (id, usage)
        };
        Ok(running.into_iter().map(usage).collect())
    }
}

fn processes() -> BTreeMap<i32, Process> {
    let mut processes = BTreeMap::new();
    for pid in crate::process::pids().into_iter().flatten() {
        // It may have ended meanwhile.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        let statm = fs::read_to_string(format!("/proc/{pid}/statm"));
        if let (Ok(stat), Ok(statm)) = (stat, statm)
            && let Some(process) = parse(&stat, &statm)
        {
            processes.insert(pid, process);
        }
    }
    processes
}

/// proc_pid_stat(5), proc_pid_statm(5).
fn parse(stat: &str, statm: &str) -> Option<Process> {
    let fields: Vec<&str> = crate::process::stat_fields(stat)?.collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let mut pages = statm.split_ascii_whitespace().skip(1).map(str::parse::<u64>);
    Some(Process {
        parent: fields.get(1)?.parse().ok()?,
        ticks: number(11)? + number(12)? + number(13)? + number(14)?,
        pages: pages.next()?.ok()?,
        shared_pages: pages.next()?.ok()?,
    })
}

/// The sum over a container's first process and all that descend from it. Pages that processes may share are counted once,
/// as those of the one that has most. Pure.
fn tree(processes: &BTreeMap<i32, Process>, first: i32) -> Process {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (pid, process) in processes {
        children.entry(process.parent).or_default().push(*pid);
    }
    let mut sum = Process::default();
    let mut left = vec![first];
    while let Some(pid) = left.pop() {
        let Some(process) = processes.get(&pid) else { continue };
        sum.ticks += process.ticks;
        sum.pages += process.pages.saturating_sub(process.shared_pages);
        sum.shared_pages = sum.shared_pages.max(process.shared_pages);
        left.extend(children.remove(&pid).unwrap_or_default());
    }
    sum.pages += sum.shared_pages;
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read() {
        let stat = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 98765 1000 2";
        let read = parse(stat, "100 60 20 1 0 30 0\n");
        let process = Process {
            parent: 7,
            ticks: 100,
            pages: 60,
            shared_pages: 20,
        };
        assert_eq!(read, Some(process));
        assert_eq!(parse("42 (x", ""), None);
    }

    #[test]
    fn only_descendants_count_and_shared_pages_once() {
        let process = |parent, ticks, pages, shared_pages| Process {
            parent,
            ticks,
            pages,
            shared_pages,
        };
        let all = BTreeMap::from([
            (1, process(0, 1000, 1000, 0)),
            (5, process(1, 1, 30, 20)),
            (6, process(5, 2, 40, 25)),
            (7, process(6, 4, 10, 0)),
            (8, process(1, 500, 500, 0)),
        ]);
        let sum = tree(&all, 5);
        assert_eq!((sum.ticks, sum.pages), (7, 10 + 15 + 10 + 25));
        assert_eq!(tree(&all, 99).pages, 0);
    }
}
