//! The world's words put into those of `afloat-disruption`, and its answers back. Each answer is kept: most questions come again.

use std::collections::{BTreeMap, HashMap};

use afloat_api::{BudgetStatus, Operation, PodUnavailableBudget, TargetRef};
use afloat_disruption::count::{Row, count};
use afloat_disruption::owners::{Owner, Selected};
use afloat_disruption::take::{Subject, Verdict, take};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::planted::Planted;
use super::setup::{Budget, PLACES, Pod, Setup, Want};

const NAMES: [&str; PLACES] = ["web-0", "web-1", "web-2", "web-3"];
/// The clock of the world begins here.
const EPOCH: i64 = 1_000_000;

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) budget: Budget,
    /// The loop looks again by itself.
    pub(super) wakes: bool,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Free,
    Take(Budget),
    Refused,
}

type Pods = [Option<Pod>; PLACES];

/// Asks the code that is checked.
pub(super) struct Real {
    setup: Setup,
    planted: Planted,
    counts: HashMap<(Budget, Pods, i8), Counted>,
    answers: HashMap<(Budget, usize, Pod, Want, i8), Answer>,
}

fn at(second: i8) -> Timestamp {
    Timestamp::from_second(EPOCH + i64::from(second)).unwrap()
}

fn second(time: Timestamp) -> i8 {
    i8::try_from(time.as_second() - EPOCH).unwrap()
}

fn small(number: i32) -> i8 {
    i8::try_from(number).unwrap()
}

fn operation(want: Want) -> Operation {
    match want {
        Want::Delete => Operation::Delete,
        Want::Evict => Operation::Evict,
        Want::Update => Operation::Update,
        Want::Resize => Operation::Resize,
    }
}

impl Real {
    pub(super) fn new(setup: &Setup, planted: Planted) -> Self {
        Self {
            setup: setup.clone(),
            planted,
            counts: HashMap::new(),
            answers: HashMap::new(),
        }
    }

    /// How many questions there were.
    pub(super) fn questions(&self) -> usize {
        self.counts.len() + self.answers.len()
    }

    /// Whether a pod counts as available for whoever looks at it.
    pub(super) fn available(&self, pod: &Pod) -> bool {
        pod.ready && (self.setup.untold || !pod.changing)
    }

    /// Counts, by what the cache has.
    pub(super) fn count(&mut self, budget: Budget, seen: Pods, now: i8) -> Counted {
        let key = (budget, seen, now);
        if let Some(known) = self.counts.get(&key) {
            return *known;
        }
        let counted = self.really_count(budget, seen, now);
        self.counts.insert(key, counted);
        counted
    }

    fn really_count(&self, budget: Budget, seen: Pods, now: i8) -> Counted {
        let object = self.object(budget);
        let selected = Selected::of(&object);
        let labels = BTreeMap::<String, String>::new();
        let about = |_: &usize| selected.is_about(&labels, &self.planted.owners(owners()));
        let rows: Vec<_> = (0..PLACES)
            .filter(about)
            .filter_map(|place| Some(self.row(place, seen[place].as_ref()?)))
            .collect();
        let total = i32::from(self.setup.total);
        let mut told = object.clone();
        self.planted.forgets(&mut told.status);
        let counted = count(&told, &rows, total, at(now));
        let mut status = counted.status;
        self.planted.miscounts(&mut status, &object.status, &rows);
        Counted {
            budget: self.stored(budget.spec, &status),
            wakes: counted.wake_at.is_some(),
        }
    }

    fn row(&self, place: usize, pod: &Pod) -> Row<'static> {
        self.planted.row(Row {
            name: NAMES[place],
            created: Some(at(pod.created)),
            available: self.available(pod),
            ready_since: Some(at(pod.ready_since)),
            going: pod.going,
        })
    }

    /// Asks for a pod.
    pub(super) fn ask(&mut self, budget: Budget, place: usize, pod: Pod, want: Want, now: i8) -> Answer {
        let key = (budget, place, pod, want, now);
        if let Some(known) = self.answers.get(&key) {
            return *known;
        }
        let subject = Subject {
            name: NAMES[place],
            created: Some(at(pod.created)),
            ready_since: Some(at(pod.ready_since)),
            available: true,
        };
        let subject = self.planted.subject(subject);
        let answer = match take(&self.object(budget), subject, operation(want), at(now)) {
            Verdict::Free => Answer::Free,
            Verdict::Take(mut status) => {
                self.planted.takes(&mut status);
                Answer::Take(self.stored(budget.spec, &status))
            }
            Verdict::Refused(_) => Answer::Refused,
        };
        self.answers.insert(key, answer);
        answer
    }

    fn object(&self, budget: Budget) -> PodUnavailableBudget {
        let mut object = PodUnavailableBudget::default();
        object.metadata.name = Some("web".into());
        object.metadata.generation = Some(i64::from(budget.spec) + 1);
        object.metadata.creation_timestamp = Some(Time(at(-70)));
        if self.setup.fresh {
            object.metadata.creation_timestamp = Some(Time(at(0)));
        }
        // The pods are those of a ReplicaSet that belongs to this.
        object.spec.target_ref = Some(TargetRef {
            api_version: "argoproj.io/v1alpha1".into(),
            kind: "Rollout".into(),
            name: "web".into(),
        });
        let most = self.setup.most[usize::from(budget.spec)];
        object.spec.max_unavailable = Some(IntOrString::Int(i32::from(most)));
        object.spec.protect_operations = vec![
            Operation::Delete,
            Operation::Evict,
            Operation::Update,
            Operation::Resize,
        ];
        let noted = |notes: [Option<i8>; PLACES]| {
            let one = |(name, note): (&str, Option<i8>)| Some((name.to_owned(), Time(at(note?))));
            NAMES.into_iter().zip(notes).filter_map(one).collect()
        };
        object.status = BudgetStatus {
            observed_generation: budget.counted.map_or(0, |spec| i64::from(spec) + 1),
            disrupted_pods: noted(budget.disrupted),
            unavailable_pods: noted(budget.unavailable),
            unavailable_allowed: budget.allowed.into(),
            current_available: budget.current.into(),
            desired_available: budget.desired.into(),
            total_replicas: budget.total.into(),
        };
        object
    }

    fn stored(&self, spec: u8, status: &BudgetStatus) -> Budget {
        let noted = |notes: &BTreeMap<String, Time>| NAMES.map(|name| notes.get(name).map(|since| second(since.0)));
        Budget {
            spec,
            counted: u8::try_from(status.observed_generation - 1).ok(),
            disrupted: noted(&status.disrupted_pods),
            unavailable: noted(&status.unavailable_pods),
            allowed: small(status.unavailable_allowed),
            current: small(status.current_available),
            desired: small(status.desired_available),
            total: small(status.total_replicas),
        }
    }
}

/// What is above each pod.
fn owners() -> Vec<Owner> {
    let owner = |api_version: &str, kind: &str, name: &str| Owner {
        api_version: api_version.into(),
        kind: kind.into(),
        name: name.into(),
        uid: name.into(),
    };
    vec![
        owner("apps/v1", "ReplicaSet", "web-1"),
        owner("argoproj.io/v1alpha1", "Rollout", "web"),
    ]
}
