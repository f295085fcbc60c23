//! What must hold.

use super::real::Real;
use super::setup::{Budget, PLACES, Phase, Setup, State};

impl State {
    /// Whether somebody has taken the pod of a place away, or is about to. (About another pod they are asked again.)
    pub(super) fn away(&self, place: usize) -> bool {
        let about = |request: &&super::setup::Request| {
            let same = request.place == place && self.pods[place] == Some(request.pod);
            same && matches!(request.phase, Phase::Allowed { counts: true })
        };
        self.down[place] || self.requests.iter().flatten().any(|request| about(&request))
    }
}

/// One more pod was let go: as many remain as are wanted. Who went away by itself is not held against it, unless that was counted before.
pub(super) fn safe(setup: &Setup, state: &State) -> Result<(), String> {
    let remains = |place: &usize| {
        let (place, pod) = (*place, state.pods[*place]);
        let by_itself = match pod {
            Some(pod) => !pod.ready,
            None => state.lost[place],
        };
        !state.away(place) && (pod.is_some_and(|pod| pod.ready) || by_itself && !state.known[place])
    };
    let remaining = (0..PLACES).filter(remains).count();
    let most = setup.most[usize::from(state.budget.spec)];
    let wanted = usize::from(setup.total.saturating_sub(most));
    if remaining < wanted {
        return Err(format!("{remaining} remain, and {wanted} are to"));
    }
    Ok(())
}

/// The loop counts, and who is away by itself is known from then on.
pub(super) fn count(real: &mut Real, state: &mut State) -> Result<String, String> {
    let counted = real.count(state.budget, state.seen, state.now);
    let notes = |budget: &Budget, place: usize| [budget.disrupted[place], budget.unavailable[place]];
    for place in 0..PLACES {
        for since in notes(&counted.budget, place).into_iter().flatten() {
            if state.seen[place].is_some_and(|pod| pod.created > since) {
                return Err(format!("what was noted of {place} is held against another pod"));
            }
            if !counted.wakes {
                return Err(format!("nobody looks again at what was noted of {place}"));
            }
        }
        let away = match state.pods[place] {
            Some(pod) => !real.available(&pod) && !state.away(place),
            None => state.lost[place],
        };
        state.known[place] |= away && state.seen[place] == state.pods[place];
    }
    if counted.budget != state.budget {
        state.write(counted.budget);
    }
    Ok("the loop counts".into())
}

/// What holds in every state, and once all is quiet.
pub(super) fn check(real: &mut Real, setup: &Setup, state: &State) -> Result<(), String> {
    for place in 0..PLACES {
        let noted = state.budget.disrupted[place].or(state.budget.unavailable[place]);
        if noted.is_some() && !state.granted[place] {
            return Err(format!("{place} is noted, and nobody let it go"));
        }
    }
    heals(real, setup, state)
}

/// Requests end, pods come back, the cache catches up, and half a minute passes.
fn heals(real: &mut Real, setup: &Setup, state: &State) -> Result<(), String> {
    let mut pods = state.pods;
    let stamp = state.stamp(setup);
    for pod in pods.iter_mut().flatten().filter(|pod| !pod.ready || pod.changing) {
        (pod.ready, pod.changing, pod.ready_since) = (true, false, stamp);
    }
    let mut budget = real.count(state.budget, pods, state.now).budget;
    let now = state.now + 30;
    budget = real.count(budget, pods, now).budget;
    let existing = pods.iter().flatten().count();
    let going = pods.iter().flatten().filter(|pod| pod.going).count();
    // Who is to go counts only as far as somebody is needed in its place.
    let (total, most) = (
        usize::from(setup.total),
        usize::from(setup.most[usize::from(budget.spec)]),
    );
    let stays = existing - going;
    let useful = stays + going.min(total.saturating_sub(stays));
    let allowed = useful.saturating_sub(total.saturating_sub(most));
    let healed = Budget {
        spec: budget.spec,
        counted: Some(budget.spec),
        disrupted: [None; PLACES],
        unavailable: [None; PLACES],
        allowed: i8::try_from(allowed).unwrap(),
        current: i8::try_from(existing).unwrap(),
        desired: i8::try_from(total.saturating_sub(most)).unwrap(),
        total: i8::try_from(total).unwrap(),
    };
    if budget != healed {
        return Err(format!("it does not heal: {budget:?} in place of {healed:?}"));
    }
    if real.count(budget, pods, now + 1).budget != budget {
        return Err("it writes without end".into());
    }
    Ok(())
}
