//! What a world is like, and its state.

/// Names that there may be pods of.
pub(super) const PLACES: usize = 4;

/// What somebody wants of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Want {
    Delete,
    Evict,
    Update,
    Resize,
}

/// What may happen in a world.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) name: &'static str,
    /// Pods that the workload wants.
    pub(super) total: u8,
    /// `maxUnavailable`, at first and after each edit.
    pub(super) most: &'static [u8],
    pub(super) wants: &'static [Want],
    /// How often somebody wants something.
    pub(super) asks: u8,
    /// A round takes of the budget before it asks.
    pub(super) rounds: bool,
    /// How often a pod becomes unready by itself.
    pub(super) breaks: u8,
    /// Pods that are to be replaced, and then go.
    pub(super) going: u8,
    /// How often a second passes, and ten.
    pub(super) seconds: u8,
    pub(super) tens: u8,
    /// By how many seconds the clocks of nodes and of the API server are ahead of the operator's.
    pub(super) ahead: i8,
    /// Only pods' readiness tells that they are changed: what runs is told by another digest than what is wanted (kruise #2570), or a gate is believed.
    pub(super) untold: bool,
    /// Nobody has counted yet.
    pub(super) fresh: bool,
}

impl Setup {
    pub(super) fn calm(name: &'static str) -> Self {
        Self {
            name,
            total: 3,
            most: &[1],
            wants: &[Want::Delete],
            asks: 2,
            rounds: false,
            breaks: 0,
            going: 0,
            seconds: 1,
            tens: 0,
            ahead: 0,
            untold: false,
            fresh: false,
        }
    }
}

/// A pod. Times are seconds by the clock of whoever wrote them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pod {
    pub(super) created: i8,
    pub(super) ready: bool,
    pub(super) ready_since: i8,
    /// Its spec is another than what runs.
    pub(super) changing: bool,
    /// It is to be replaced and then deleted.
    pub(super) going: bool,
}

/// The budget as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// Which of the world's specs it has.
    pub(super) spec: u8,
    /// Which of them was counted for; None: none was yet.
    pub(super) counted: Option<u8>,
    pub(super) disrupted: [Option<i8>; PLACES],
    pub(super) unavailable: [Option<i8>; PLACES],
    pub(super) allowed: i8,
    pub(super) current: i8,
    pub(super) desired: i8,
    pub(super) total: i8,
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    /// An instance of the webhook has read the budget; `late`: somebody has written it since.
    Read { budget: Budget, late: bool },
    /// It may take place; `counts`: it takes an available pod away.
    Allowed { counts: bool },
}

/// Somebody wants something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Request {
    pub(super) place: usize,
    pub(super) want: Want,
    /// The pod that it was asked about.
    pub(super) pod: Pod,
    pub(super) phase: Phase,
    /// A round takes for itself, and asks afterwards.
    pub(super) round: bool,
}

/// All of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) now: i8,
    pub(super) pods: [Option<Pod>; PLACES],
    pub(super) seen: [Option<Pod>; PLACES],
    pub(super) budget: Budget,
    pub(super) requests: [Option<Request>; 2],
    /// Places whose pod somebody took away, until there is a ready one.
    pub(super) down: [bool; PLACES],
    /// Places whose pod went away by itself, and that was counted.
    pub(super) known: [bool; PLACES],
    /// Places whose pod was not available when it was taken away.
    pub(super) lost: [bool; PLACES],
    /// Places for which something was taken.
    pub(super) granted: [bool; PLACES],
    pub(super) asks: u8,
    pub(super) breaks: u8,
    pub(super) going: u8,
    pub(super) seconds: u8,
    pub(super) tens: u8,
}

impl State {
    pub(super) fn new(setup: &Setup) -> Self {
        let old = |place: usize| {
            (place < usize::from(setup.total)).then_some(Pod {
                created: -60,
                ready: true,
                ready_since: -50,
                changing: false,
                going: false,
            })
        };
        let pods = std::array::from_fn(old);
        let total = i8::try_from(setup.total).unwrap();
        let most = i8::try_from(setup.most[0]).unwrap();
        let none = Budget {
            spec: 0,
            counted: None,
            disrupted: [None; PLACES],
            unavailable: [None; PLACES],
            allowed: 0,
            current: 0,
            desired: 0,
            total: 0,
        };
        let counted = Budget {
            counted: Some(0),
            allowed: most,
            current: total,
            desired: total - most,
            total,
            ..none
        };
        Self {
            now: 0,
            pods,
            seen: pods,
            budget: if setup.fresh { none } else { counted },
            requests: [None; 2],
            down: [false; PLACES],
            known: [false; PLACES],
            lost: [false; PLACES],
            granted: [false; PLACES],
            asks: setup.asks,
            breaks: setup.breaks,
            going: setup.going,
            seconds: setup.seconds,
            tens: setup.tens,
        }
    }
}
