//! The core group.

use crate::builtin::{
    classes, cluster, pod, service, service_checks, volume, volume_checks, workload, workload_checks,
};
use crate::names;
use crate::resource::{BindsTokens, Column, Deletion, Given, Inert, Kind, Status, StatusChanges, Table, When};
use crate::table;

const POD_SUBRESOURCES: &[&str] = &[
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "log",
    "portforward",
    "proxy",
    "resize",
];

pub(super) const CORE_KINDS: &[Kind] = &[
    Kind {
        kind: "ConfigMap",
        plural: "configmaps",
        short_names: &["cm"],
        namespaced: true,
        validate: cluster::data,
        validate_update: cluster::immutable,
        table: Some(Table {
            columns: &[Column::text("Data"), Column::text("Age")],
            cells: table::cells::config_map,
        }),
        ..Kind::PLAIN
    },
    Kind {
        kind: "Endpoints",
        plural: "endpoints",
        short_names: &["ep"],
        namespaced: true,
        default: service::default_endpoints,
        table: Some(Table {
            columns: &[Column::text("Endpoints"), Column::text("Age")],
            cells: table::cells::endpoints,
        }),
        ..Kind::PLAIN
    },
    Kind {
        kind: "Event",
        plural: "events",
        short_names: &["ev"],
        namespaced: true,
        selectable: &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        table: Some(Table {
            columns: &[
                Column::text("Last Seen"),
                Column::text("Type"),
                Column::text("Reason"),
                Column::text("Object"),
                Column::wide("Subobject"),
                Column::wide("Source"),
                Column::text("Message"),
                Column::wide("First Seen"),
                Column::wide("Count"),
                Column::wide("Name"),
            ],
            cells: table::cells::event,
        }),
        ..Kind::PLAIN
    },
    Kind {
        kind: "LimitRange",
        plural: "limitranges",
        inert: Some("stored, but nothing is defaulted or refused by it"),
        short_names: &["limits"],
        namespaced: true,
        ..Kind::PLAIN
    },
    Kind {
        kind: "Namespace",
        plural: "namespaces",
        short_names: &["ns"],
        status: Status::Own,
        subresources: &["finalize"],
        name: names::dns_label,
        default: cluster::default_namespace,
        begin: cluster::activate,
        keep: cluster::keep_finalizers,
        deletion: Deletion::Emptied,
        undeletable: Some((
            &["default", "kube-system", "kube-public"],
            "this namespace may not be deleted",
        )),
        selectable: &["status.phase"],
        table: Some(Table {
            columns: &[Column::text("Status"), Column::text("Age")],
            cells: table::cells::namespace,
        }),
        ..Kind::PLAIN
    },
    Kind {
        kind: "Node",
        plural: "nodes",
        short_names: &["no"],
        status: Status::Given,
        subresources: &["proxy"],
        validate: cluster::node,
        validate_update: cluster::immutable,
        selectable: &["spec.unschedulable"],
        table: Some(Table {
            columns: &[
                Column::text("Status"),
                Column::text("Roles"),
                Column::text("Age"),
                Column::text("Version"),
                Column::wide("Internal-IP"),
                Column::wide("External-IP"),
                Column::wide("OS-Image"),
                Column::wide("Kernel-Version"),
                Column::wide("Container-Runtime"),
            ],
            cells: table::node::cells,
        }),
        binds_tokens: Some(BindsTokens::Node),
        ..Kind::PLAIN
    },
    Kind {
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        inert_fields: &[
            Inert {
                when: When::Is("ReadWriteOncePod"),
                ..Inert::set("spec.accessModes[]", "more than one pod can mount it")
            },
            Inert::set("spec.dataSource", "the volume begins empty"),
            Inert::set("spec.dataSourceRef", "the volume begins empty"),
            Inert::set("spec.volumeAttributesClassName", "nobody looks at it"),
        ],
        short_names: &["pvc"],
        namespaced: true,
        status: Status::Own,
        default: volume::default_claim,
        begin: volume::begin,
        validate: volume_checks::claim,
        validate_update: volume_checks::claim_update,
        protection: Some("kubernetes.io/pvc-protection"),
        given: Given::StorageClass,
        table: Some(Table {
            columns: &[
                Column::text("Status"),
                Column::text("Volume"),
                Column::text("Capacity"),
                Column::text("Access Modes"),
                Column::text("StorageClass"),
                Column::text("VolumeAttributesClass"),
                Column::text("Age"),
                Column::wide("VolumeMode"),
            ],
            cells: table::storage::claim,
        }),
        ..Kind::PLAIN
    },
    Kind {
        kind: "PersistentVolume",
        plural: "persistentvolumes",
        inert_fields: &[Inert::set("spec.mountOptions", "they are not given to the mount")],
        short_names: &["pv"],
        status: Status::Own,
        default: volume::default_persistent_volume,
        begin: volume::begin,
        validate: volume_checks::volume,
        validate_update: volume_checks::volume_update,
        protection: Some("kubernetes.io/pv-protection"),
        table: Some(Table {
            columns: &[
                Column::text("Capacity"),
                Column::text("Access Modes"),
                Column::text("Reclaim Policy"),
                Column::text("Status"),
                Column::text("Claim"),
                Column::text("StorageClass"),
                Column::text("VolumeAttributesClass"),
                Column::text("Reason"),
                Column::text("Age"),
                Column::wide("VolumeMode"),
            ],
            cells: table::storage::volume,
        }),
        ..Kind::PLAIN
    },
    Kind {
        kind: "Pod",
        plural: "pods",
        short_names: &["po"],
        categories: &["all"],
        namespaced: true,
        status: Status::Own,
        status_changes: StatusChanges::NoOwners,
        subresources: POD_SUBRESOURCES,
        default: pod::default_pod,
        begin: pod::admit,
        validate: pod::checks::pod,
        validate_create: pod::ephemeral::validate_create,
        validate_update: pod::update::validate,
        warnings: pod::checks::pod_warnings,
        deletion: Deletion::Graceful,
        given: Given::TokenAndClasses,
        keep: classes::keep_priority,
        selectable: &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ],
        table: Some(Table {
            columns: &[
                Column::text("Ready"),
                Column::text("Status"),
                Column::text("Restarts"),
                Column::text("Age"),
                Column::wide("IP"),
                Column::wide("Node"),
                Column::wide("Nominated Node"),
                Column::wide("Readiness Gates"),
            ],
            cells: table::pod::cells,
        }),
        binds_tokens: Some(BindsTokens::Pod),
        describes_pods: Some(&[]),
        ..Kind::PLAIN
    },
    Kind {
        kind: "PodTemplate",
        plural: "podtemplates",
        namespaced: true,
        default: pod::default_template,
        validate: workload_checks::pod_template,
        describes_pods: Some(&["template"]),
        ..Kind::PLAIN
    },
    Kind {
        kind: "ReplicationController",
        plural: "replicationcontrollers",
        short_names: &["rc"],
        categories: &["all"],
        namespaced: true,
        status: Status::Own,
        scale: true,
        default: workload::default_replication_controller,
        validate: workload_checks::replication_controller,
        warnings: pod::checks::template_warnings,
        orphans: true,
        describes_pods: Some(&["spec", "template"]),
        selectable: &["status.replicas"],
        table: Some(Table {
            columns: &[
                Column::of("Desired", "integer"),
                Column::of("Current", "integer"),
                Column::of("Ready", "integer"),
                Column::text("Age"),
                Column::wide("Containers"),
                Column::wide("Images"),
                Column::wide("Selector"),
            ],
            cells: table::workload::replica_set,
        }),
        ..Kind::PLAIN
    },
    Kind {
        kind: "ResourceQuota",
        plural: "resourcequotas",
        inert: Some("stored, but nothing is counted or refused by it"),
        short_names: &["quota"],
        namespaced: true,
        status: Status::Own,
        ..Kind::PLAIN
    },
    Kind {
        kind: "Secret",
        plural: "secrets",
        namespaced: true,
        default: cluster::default_secret,
        validate: cluster::data,
        validate_update: cluster::immutable,
        selectable: &["type"],
        table: Some(Table {
            columns: &[Column::text("Type"), Column::of("Data", "integer"), Column::text("Age")],
            cells: table::cells::secret,
        }),
        binds_tokens: Some(BindsTokens::Secret),
        ..Kind::PLAIN
    },
    Kind {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        short_names: &["sa"],
        namespaced: true,
        subresources: &["token"],
        table: Some(Table {
            columns: &[Column::of("Secrets", "integer"), Column::text("Age")],
            cells: table::cells::service_account,
        }),
        ..Kind::PLAIN
    },
    Kind {
        kind: "Service",
        plural: "services",
        inert_fields: &[
            Inert {
                when: When::Is("LoadBalancer"),
                ..Inert::set(
                    "spec.type",
                    "there is no load balancer: its address stays <pending>, its node port works",
                )
            },
            Inert::set("spec.externalIPs", "no traffic comes in by them"),
            Inert::set("spec.loadBalancerSourceRanges", "nobody is held back"),
            Inert::set("spec.trafficDistribution", "the proxies do not look at it"),
        ],
        short_names: &["svc"],
        categories: &["all"],
        namespaced: true,
        status: Status::Own,
        subresources: &["proxy"],
        name: names::dns_1035_label,
        default: service::default_service,
        begin: service::begin,
        keep: service::keep_allocated,
        validate: service_checks::validate,
        validate_update: service_checks::validate_update,
        warnings: service_checks::warnings,
        given: Given::Addresses,
        selectable: &["spec.clusterIP", "spec.type"],
        table: Some(Table {
            columns: &[
                Column::text("Type"),
                Column::text("Cluster-IP"),
                Column::text("External-IP"),
                Column::text("Port(s)"),
                Column::text("Age"),
                Column::wide("Selector"),
            ],
            cells: table::cells::service,
        }),
        ..Kind::PLAIN
    },
];
