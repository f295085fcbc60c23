//! What may happen next.

use super::check::{count, safe};
use super::planted::Planted;
use super::real::{Answer, Real};
use super::setup::{PLACES, Phase, Pod, Request, Setup, State, Want};

/// What may happen, in words, and what is then; or what must not.
pub(super) type Moves = Result<Vec<(String, State)>, String>;

pub(super) fn moves(real: &mut Real, setup: &Setup, planted: Planted, state: &State) -> Moves {
    let mut all = Vec::new();
    asks(real, setup, state, &mut all);
    for index in 0..state.requests.len() {
        if let Some(request) = state.requests[index] {
            all.push(step(real, setup, planted, state, index, request)?);
            let mut next = *state;
            next.end(index);
            all.push((
                format!("{:?} of {} is refused by others", request.want, request.place),
                next,
            ));
        }
    }
    nodes(setup, state, &mut all);
    others(setup, state, &mut all);
    let mut next = *state;
    let text = count(real, &mut next)?;
    all.push((text, next));
    all.retain(|(_, next)| next != state);
    Ok(all)
}

impl State {
    /// Somebody has written the budget: who has read it is late.
    fn written(&mut self) {
        for request in self.requests.iter_mut().flatten() {
            if let Phase::Read { late, .. } = &mut request.phase {
                *late = true;
            }
        }
    }

    fn end(&mut self, index: usize) {
        self.requests[index] = None;
        self.requests.sort_by_key(Option::is_none);
    }

    /// A pod is ready, and whatever took it away is over.
    fn up(&mut self, place: usize) {
        (self.down[place], self.known[place], self.lost[place]) = (false, false, false);
    }

    pub(super) fn write(&mut self, budget: super::setup::Budget) {
        self.budget = budget;
        self.written();
        for place in 0..PLACES {
            self.granted[place] &= budget.disrupted[place].or(budget.unavailable[place]).is_some();
        }
    }

    /// A request about the pod that there is, as the webhook begins with it.
    fn asked(&self, real: &Real, place: usize, want: Want) -> Option<Request> {
        let pod = self.pods[place]?;
        let phase = if real.available(&pod) {
            Phase::Read {
                budget: self.budget,
                late: false,
            }
        } else {
            Phase::Allowed { counts: false }
        };
        Some(Request {
            place,
            want,
            pod,
            phase,
            round: false,
        })
    }

    pub(super) fn stamp(&self, setup: &Setup) -> i8 {
        self.now + setup.ahead
    }
}

/// Somebody wants something.
fn asks(real: &Real, setup: &Setup, state: &State, all: &mut Vec<(String, State)>) {
    let Some(free) = state.requests.iter().position(Option::is_none) else {
        return;
    };
    if state.asks == 0 {
        return;
    }
    for (place, want) in (0..PLACES).flat_map(|place| setup.wants.iter().map(move |want| (place, *want))) {
        let mut push = |request: Request, who: &str| {
            let mut next = *state;
            next.requests[free] = Some(request);
            next.asks -= 1;
            all.push((format!("{who}: {want:?} of {place}"), next));
        };
        if let Some(request) = state.asked(real, place, want) {
            push(request, "somebody");
        }
        let seen = state.seen[place].filter(|pod| real.available(pod));
        if let Some(pod) = seen.filter(|_| setup.rounds && want != Want::Evict) {
            let phase = Phase::Read {
                budget: state.budget,
                late: false,
            };
            push(
                Request {
                    place,
                    want,
                    pod,
                    phase,
                    round: true,
                },
                "a round",
            );
        }
    }
}

/// A request goes on by one step.
fn step(
    real: &mut Real,
    setup: &Setup,
    planted: Planted,
    state: &State,
    index: usize,
    request: Request,
) -> Result<(String, State), String> {
    let (place, want) = (request.place, request.want);
    match request.phase {
        Phase::Read { late: true, .. } if planted.guards() => {
            let mut next = *state;
            let phase = Phase::Read {
                budget: state.budget,
                late: false,
            };
            next.requests[index] = Some(Request { phase, ..request });
            Ok((format!("the budget is read again for {want:?} of {place}"), next))
        }
        Phase::Read { budget, .. } => decide(real, setup, planted, state, index, request, budget),
        Phase::Allowed { counts } => {
            let mut next = *state;
            if state.pods[place] != Some(request.pod) {
                let again = state.asked(real, place, want);
                next.end(index);
                if let Some(again) = again {
                    next.requests[index.min(next.requests.iter().flatten().count())] = Some(again);
                }
                return Ok((format!("it is another pod: {want:?} of {place} is asked again"), next));
            }
            next.end(index);
            next.down[place] |= counts && want != Want::Resize;
            match want {
                Want::Delete | Want::Evict => {
                    next.pods[place] = None;
                    next.lost[place] = !next.down[place];
                }
                Want::Update => {
                    next.pods[place] = Some(Pod {
                        changing: true,
                        ..request.pod
                    });
                }
                Want::Resize => {}
            }
            Ok((format!("{want:?} of {place} takes place"), next))
        }
    }
}

/// An instance of the webhook, or a round, decides on what it has read.
fn decide(
    real: &mut Real,
    setup: &Setup,
    planted: Planted,
    state: &State,
    index: usize,
    request: Request,
    read: super::setup::Budget,
) -> Result<(String, State), String> {
    let (place, want) = (request.place, request.want);
    let mut next = *state;
    let who = if request.round { "the round" } else { "the webhook" };
    // It was let go before, and that still holds.
    let about = |since: Option<i8>| since.is_some_and(|since| request.pod.created <= since);
    let known = about(read.disrupted[place]) || about(read.unavailable[place]);
    match real.ask(read, place, request.pod, want, state.now) {
        Answer::Refused => {
            next.end(index);
            if planted == Planted::RefusedCounts {
                let mut budget = read;
                budget.disrupted[place] = Some(state.now);
                next.write(budget);
            }
            return Ok((format!("{who} refuses {want:?} of {place}"), next));
        }
        Answer::Free => {}
        Answer::Take(_) if known && planted == Planted::NotedOnce => {}
        Answer::Take(budget) => {
            next.granted[place] = true;
            next.write(budget);
        }
    }
    if request.round {
        let same = next.pods[place] == Some(request.pod);
        match next.asked(real, place, want).filter(|_| same) {
            Some(asked) => next.requests[index] = Some(asked),
            None => next.end(index),
        }
        return Ok((format!("the round takes for {want:?} of {place}"), next));
    }
    let before = next.away(place);
    let counts = next.pods[place] == Some(request.pod) && request.pod.ready;
    let phase = Phase::Allowed { counts };
    next.requests[index] = Some(Request { phase, ..request });
    let text = format!("the webhook allows {want:?} of {place}");
    if !known && !before && next.away(place) {
        safe(setup, &next).map_err(|why| format!("{text}: {why}"))?;
    }
    Ok((text, next))
}

/// Nodes and the workload do something.
fn nodes(setup: &Setup, state: &State, all: &mut Vec<(String, State)>) {
    let stamp = state.stamp(setup);
    let existing = state.pods.iter().flatten().count();
    let going = state.pods.iter().flatten().filter(|pod| pod.going).count();
    for place in 0..PLACES {
        let mut next = *state;
        let text = match state.pods[place] {
            None if existing < usize::from(setup.total) + going && (place < usize::from(setup.total) || going > 0) => {
                next.lost[place] = false;
                let new = Pod {
                    created: stamp,
                    ready: false,
                    ready_since: stamp,
                    changing: false,
                    going: false,
                };
                next.pods[place] = Some(new);
                "is made anew"
            }
            None => continue,
            Some(pod) if pod.ready && !pod.changing => {
                if state.breaks == 0 {
                    continue;
                }
                next.breaks -= 1;
                next.pods[place] = Some(Pod {
                    ready: false,
                    ready_since: stamp,
                    ..pod
                });
                "becomes unready by itself"
            }
            Some(pod) if pod.ready => {
                next.pods[place] = Some(Pod {
                    ready: false,
                    ready_since: stamp,
                    ..pod
                });
                "stops for its change"
            }
            Some(pod) => {
                next.pods[place] = Some(Pod {
                    ready: true,
                    ready_since: stamp,
                    changing: false,
                    ..pod
                });
                next.up(place);
                "is ready"
            }
        };
        all.push((format!("{place} {text}"), next));
    }
}

/// The user, the cache and time.
fn others(setup: &Setup, state: &State, all: &mut Vec<(String, State)>) {
    if state.going > 0 {
        for place in 0..PLACES {
            if let Some(pod) = state.pods[place].filter(|pod| !pod.going) {
                let mut next = *state;
                next.going -= 1;
                next.pods[place] = Some(Pod { going: true, ..pod });
                all.push((format!("{place} is to be replaced"), next));
            }
        }
    }
    if usize::from(state.budget.spec) + 1 < setup.most.len() {
        let mut next = *state;
        next.budget.spec += 1;
        next.written();
        all.push(("the budget is edited".into(), next));
    }
    let mut next = *state;
    next.seen = state.pods;
    all.push(("the cache catches up".into(), next));
    if state.seconds > 0 {
        let mut next = *state;
        (next.now, next.seconds) = (state.now + 1, state.seconds - 1);
        all.push(("a second passes".into(), next));
    }
    let stopping = |pod: &Pod| setup.untold && pod.ready && pod.changing;
    let quiet = state.requests == [None; 2] && state.seen == state.pods && !state.pods.iter().flatten().any(stopping);
    if state.tens > 0 && quiet && state.budget.counted == Some(state.budget.spec) {
        let mut next = *state;
        (next.now, next.tens) = (state.now + 10, state.tens - 1);
        all.push(("ten seconds pass".into(), next));
    }
}
