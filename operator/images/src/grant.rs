//! Which node pulls for which job next. The limit of a job is a number of nodes that are at it; what a job of a list may is what the
//! list may (kruise #2208: eleven images with `parallelism: 1` are one node at a time, and not eleven).

use std::collections::{BTreeMap, BTreeSet};

use afloat_words::owner::controller_of;

use crate::job::Standing;
use crate::select::{Index, State};

/// Jobs and nodes that may begin, by the place of the job: no limit is exceeded by them, and whoever can begin does.
pub(crate) fn grants<'a>(standings: &[Standing<'a>], index: &Index<'a>) -> Vec<(usize, &'a str)> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, standing) in standings.iter().enumerate().filter(|(_, one)| one.may_ask) {
        groups.entry(group(standing)).or_default().push(place);
    }
    groups
        .into_values()
        .flat_map(|jobs| of_group(&jobs, standings, index))
        .collect()
}

/// Jobs of one list share a limit; each other job has its own.
fn group<'a>(standing: &Standing<'a>) -> &'a str {
    let owner = controller_of(&standing.job.metadata).filter(|owner| owner.kind == "ImageListPullJob");
    let uid = owner.map(|owner| owner.uid.as_str());
    uid.or(standing.job.metadata.uid.as_deref()).unwrap_or_default()
}

fn of_group<'a>(jobs: &[usize], standings: &[Standing<'a>], index: &Index<'a>) -> Vec<(usize, &'a str)> {
    let limit = jobs
        .iter()
        .map(|job| standings[*job].job.spec.template.parallelism())
        .min();
    let limit = limit.unwrap_or(0);
    if limit == 0 {
        return Vec::new();
    }
    let in_state = |wanted: State| {
        let nodes = jobs.iter().flat_map(|job| &standings[*job].states);
        let nodes = nodes.filter(move |(_, state)| **state == wanted);
        nodes.map(|(node, _)| *node).collect::<BTreeSet<&'a str>>()
    };
    let mut active = in_state(State::Active);
    for node in index.order(in_state(State::Unasked).into_iter()) {
        if active.len() >= limit {
            break;
        }
        active.insert(node);
    }
    if active.len() > limit {
        // The limit was lowered: nobody begins before enough have ended.
        return Vec::new();
    }
    let wants = |job: usize, node: &'a str| standings[job].states.get(node) == Some(&State::Unasked);
    let pairs = jobs.iter().flat_map(|job| active.iter().map(|node| (*job, *node)));
    pairs.filter(|(job, node)| wants(*job, node)).collect()
}
