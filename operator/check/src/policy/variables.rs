//! What the rules' CEL expressions share: variables of the policy, and pieces of text.
//!
//! Everything starts from `dyn(object)`: one policy is for several kinds, and no field is in all of their schemas.

use std::borrow::Cow;

use afloat_rollout::kinds::{KINDS, Names, Visit, with};
use afloat_rollout::workload::foresight::Foreseen;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::form::{Form, listed};

/// A number of a probe, or its default.
macro_rules! number {
    ($probe:literal, $field:literal, $default:literal) => {
        concat!(
            "(has(", $probe, ".", $field, ") ? ", $probe, ".", $field, " : ", $default, ")"
        )
    };
}
pub(crate) use number;

/// Seconds for which a probe fails before it has failed.
macro_rules! span {
    ($probe:literal) => {
        concat!(
            crate::policy::variables::number!($probe, "periodSeconds", "10"),
            " * ",
            crate::policy::variables::number!($probe, "failureThreshold", "3")
        )
    };
}
pub(crate) use span;

/// Seconds that a hook sleeps, as a double; -1 if it does not say. The same as
/// [`sleep_seconds`](crate::rules::shutdown::sleep_seconds), not rounded up.
///
/// Whatever ends a word of a shell becomes two spaces, so that two matches never want the same one.
macro_rules! sleep {
    ($hook:literal) => {
        concat!(
            "(has(",
            $hook,
            ".sleep) && has(",
            $hook,
            ".sleep.seconds) ? double(",
            $hook,
            ".sleep.seconds) : ",
            "has(",
            $hook,
            ".exec) && has(",
            $hook,
            ".exec.command) ? [([0.0] + (' ' + ",
            $hook,
            ".exec.command.join(' ') + ' ')",
            ".replace(' ', '  ').replace('\\t', '  ').replace('\\n', '  ').replace(';', '  ').replace('&', '  ')",
            ".replace('|', '  ').replace('(', '  ').replace(')', '  ')",
            ".findAll(' ([^ ]*/)?sleep +[\"\\']*[+]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?[smh]?[\"\\']* ')",
            ".map(m, double(m.find('[+.0-9][+.0-9eE-]*[smh]?[\"\\']* $').find('^[+.0-9eE-]+'))",
            " * (m.matches('m[\"\\']* $') ? 60.0 : m.matches('h[\"\\']* $') ? 3600.0 : 1.0))).sum()]",
            ".map(s, s > 0.0 ? s : -1.0)[0] : -1.0)",
        )
    };
}
pub(crate) use sleep;

/// The containers of a list whose preStop says how long it sleeps: `{container, seconds}`.
macro_rules! stops {
    ($containers:literal) => {
        concat!(
            $containers,
            ".filter(c, has(c.lifecycle) && has(c.lifecycle.preStop)).map(c, {'container': c, 'seconds': dyn(",
            crate::policy::variables::sleep!("c.lifecycle.preStop"),
            ")}).filter(s, s.seconds >= 0.0)"
        )
    };
}

/// The annotations that the operator reads from a workload of its kinds.
const KEYS: &str = "['afloat.dev/drain', 'afloat.dev/max-loss', 'afloat.dev/on-loss']";

/// Name and expression, each after those that it uses.
pub(super) fn shared() -> Vec<(&'static str, Cow<'static, str>)> {
    let plain = |(name, text): &(&'static str, &'static str)| (*name, Cow::Borrowed(*text));
    let mut all: Vec<_> = OBJECT.iter().map(plain).collect();
    all.extend(of_kinds().map(|(name, text)| (name, Cow::Owned(text))));
    all.extend(UPDATE.iter().map(plain));
    all
}

/// What is so of some kinds only, from their table.
fn of_kinds() -> [(&'static str, String); 4] {
    let ours = |is: fn(&Names) -> bool| listed(move |form| matches!(form, Form::Ours(names) if is(names)));
    let flat = format!(
        "variables.kind in {} && object.apiVersion == 'apps.kruise.io/v1alpha1'",
        ours(|names| names.flat)
    );
    let floors = format!(
        "variables.kind == 'Deployment' || variables.ours && variables.kind in {}",
        ours(|names| names.floors)
    );
    let mut usual = String::new();
    for names in KINDS {
        let value = with(names.kind, Usual).unwrap_or_default();
        usual.push_str(&format!(
            "variables.ours && variables.kind == '{}' ? dyn('{value}') : ",
            names.kind
        ));
    }
    usual.push_str("variables.kind == 'Deployment' ? dyn('25%') : dyn('1')");
    [
        ("perNode", format!("variables.kind in {}", listed(Form::per_node))),
        // A v1alpha1 that has its settings flat has its policy for a type; whatever else it has means nothing there.
        ("flat", flat),
        // Where a percentage that may be unavailable is rounded down.
        ("floors", floors),
        ("usual", usual),
    ]
}

/// How many pods of a kind may be unavailable where nothing is said.
struct Usual;

impl Visit for Usual {
    type Out = String;
    fn visit<W: Foreseen>(self) -> String {
        match W::default().rollout().max_unavailable {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text,
        }
    }
}

const OBJECT: &[(&str, &str)] = &[
    ("spec", "dyn(object).spec"),
    ("kind", "object.kind"),
    ("pod", "variables.spec.template.spec"),
    // What runs beside each other.
    (
        "containers",
        "has(variables.pod.containers) ? variables.pod.containers : []",
    ),
    (
        "initContainers",
        "has(variables.pod.initContainers) ? variables.pod.initContainers : []",
    ),
    // Not those that run to their end before the others.
    (
        "lasting",
        "variables.containers + variables.initContainers.filter(c, has(c.restartPolicy) && c.restartPolicy == 'Always')",
    ),
    (
        "grace",
        "has(variables.pod.terminationGracePeriodSeconds) ? variables.pod.terminationGracePeriodSeconds : 30",
    ),
    ("stops", stops!("variables.containers")),
    ("lastingStops", stops!("variables.lasting")),
    (
        "longest",
        "variables.stops.filter(s, variables.stops.all(other, other.seconds <= s.seconds))",
    ),
    (
        "strategy",
        "has(variables.spec.updateStrategy) ? variables.spec.updateStrategy \
         : has(variables.spec.strategy) ? variables.spec.strategy : dyn({})",
    ),
    (
        "rolling",
        "has(variables.strategy.rollingUpdate) ? variables.strategy.rollingUpdate : dyn({})",
    ),
    ("ours", "object.apiVersion.startsWith('apps.kruise.io/')"),
];

const UPDATE: &[(&str, &str)] = &[
    ("settings", "variables.flat ? variables.strategy : variables.rolling"),
    (
        "policy",
        "variables.flat ? (has(variables.strategy.type) ? variables.strategy.type : dyn('')) \
         : variables.perNode ? (has(variables.rolling.rollingUpdateType) ? variables.rolling.rollingUpdateType : dyn('')) \
         : has(variables.rolling.podUpdatePolicy) ? variables.rolling.podUpdatePolicy : dyn('')",
    ),
    (
        "inPlace",
        "variables.ours && variables.policy in ['InPlaceIfPossible', 'InPlaceOnly']",
    ),
    ("replicas", "has(variables.spec.replicas) ? variables.spec.replicas : 1"),
    (
        "maxUnavailable",
        "string(has(variables.settings.maxUnavailable) ? variables.settings.maxUnavailable : variables.usual)",
    ),
    (
        "surges",
        "variables.ours && string(has(variables.settings.maxSurge) ? variables.settings.maxSurge \
         : dyn('0')).matches('^0*[1-9][0-9]*%?$')",
    ),
    ("keys", KEYS),
    (
        "annotations",
        "has(object.metadata.annotations) ? dyn(object.metadata.annotations) : dyn({})",
    ),
    (
        "podAnnotations",
        "has(variables.spec.template.metadata) && has(variables.spec.template.metadata.annotations) \
         ? variables.spec.template.metadata.annotations : dyn({})",
    ),
];
