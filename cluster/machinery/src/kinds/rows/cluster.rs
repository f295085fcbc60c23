//! The small groups: leases, slices, events, figures, networks, classes.

use crate::builtin::{classes, cluster, service};
use crate::resource::{Column, Given, Kind, Serving, Status, StoredAs, Table};
use crate::table;

/// `events.k8s.io/v1` events and core events are the same objects in other words. kube-runtime's recorder writes the former,
/// `kubectl describe` and `kubectl get events` read the latter.
const CORE_EVENT: StoredAs = StoredAs {
    group: "",
    renamed: &[
        ("regarding", "involvedObject"),
        ("note", "message"),
        ("reportingController", "reportingComponent"),
        ("deprecatedSource", "source"),
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
    ],
};

const COORDINATION: Kind = Kind {
    group: "coordination.k8s.io",
    ..Kind::PLAIN
};

pub(super) const COORDINATION_KINDS: &[Kind] = &[Kind {
    kind: "Lease",
    plural: "leases",
    namespaced: true,
    validate: cluster::lease,
    table: Some(Table {
        columns: &[Column::text("Holder"), Column::text("Age")],
        cells: table::cells::lease,
    }),
    ..COORDINATION
}];

const DISCOVERY: Kind = Kind {
    group: "discovery.k8s.io",
    ..Kind::PLAIN
};

pub(super) const DISCOVERY_KINDS: &[Kind] = &[Kind {
    kind: "EndpointSlice",
    plural: "endpointslices",
    counts: true,
    namespaced: true,
    default: service::default_slice,
    validate: service::validate_slice,
    validate_update: service::validate_slice_update,
    table: Some(Table {
        columns: &[
            Column::text("AddressType"),
            Column::text("Ports"),
            Column::text("Endpoints"),
            Column::text("Age"),
        ],
        cells: table::cells::endpoint_slice,
    }),
    ..DISCOVERY
}];

const EVENTS: Kind = Kind {
    group: "events.k8s.io",
    ..Kind::PLAIN
};

pub(super) const EVENTS_KINDS: &[Kind] = &[Kind {
    kind: "Event",
    plural: "events",
    short_names: &["ev"],
    namespaced: true,
    stored_as: Some(CORE_EVENT),
    selectable: &[
        "regarding.kind",
        "regarding.namespace",
        "regarding.name",
        "regarding.uid",
        "regarding.apiVersion",
        "regarding.resourceVersion",
        "regarding.fieldPath",
        "reason",
        "reportingController",
        "type",
    ],
    ..EVENTS
}];

const METRICS: Kind = Kind {
    group: "metrics.k8s.io",
    version: "v1beta1",
    ..Kind::PLAIN
};

pub(super) const METRICS_KINDS: &[Kind] = &[
    Kind {
        kind: "NodeMetrics",
        plural: "nodes",
        serving: Serving::Measured,
        ..METRICS
    },
    Kind {
        kind: "PodMetrics",
        plural: "pods",
        namespaced: true,
        serving: Serving::Measured,
        ..METRICS
    },
];

const NETWORKING: Kind = Kind {
    group: "networking.k8s.io",
    ..Kind::PLAIN
};

pub(super) const NETWORKING_KINDS: &[Kind] = &[
    Kind {
        kind: "Ingress",
        plural: "ingresses",
        counts: true,
        short_names: &["ing"],
        namespaced: true,
        status: Status::Own,
        ..NETWORKING
    },
    Kind {
        kind: "IngressClass",
        plural: "ingressclasses",
        counts: true,
        default: cluster::default_ingress_class,
        ..NETWORKING
    },
    Kind {
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        counts: true,
        inert: Some("stored, but nothing enforces it: every pod reaches every other"),
        short_names: &["netpol"],
        namespaced: true,
        default: cluster::default_network_policy,
        ..NETWORKING
    },
];

const NODE: Kind = Kind {
    group: "node.k8s.io",
    ..Kind::PLAIN
};

pub(super) const NODE_KINDS: &[Kind] = &[Kind {
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    inert: Some("stored, but the nodes have one runtime: a pod that names a class does not start"),
    validate: classes::runtime_class,
    validate_update: classes::runtime_class_update,
    table: Some(Table {
        columns: &[Column::text("Handler"), Column::text("Age")],
        cells: table::cells::runtime_class,
    }),
    ..NODE
}];

const SCHEDULING: Kind = Kind {
    group: "scheduling.k8s.io",
    ..Kind::PLAIN
};

pub(super) const SCHEDULING_KINDS: &[Kind] = &[Kind {
    kind: "PriorityClass",
    plural: "priorityclasses",
    counts: true,
    inert: Some("pods that wait for a node are taken in its order, but none has to make room for another"),
    short_names: &["pc"],
    default: classes::default_priority_class,
    validate: classes::priority_class,
    validate_update: classes::priority_class_update,
    given: Given::OneDefault,
    undeletable: Some((
        classes::SYSTEM_NAMES,
        "this is a system priority class and cannot be deleted",
    )),
    table: Some(Table {
        columns: &[
            Column::of("Value", "integer"),
            Column::of("Global-Default", "boolean"),
            Column::text("Age"),
        ],
        cells: table::cells::priority_class,
    }),
    ..SCHEDULING
}];
