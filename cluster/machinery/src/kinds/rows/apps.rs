//! Workloads: `apps`, `batch`, `autoscaling`, `policy`.

use crate::builtin::{batch_checks, batch_status, cluster, cron_job_checks, pod, workload, workload_checks};
use crate::resource::{Column, Inert, Kind, Status, StatusChanges, Table, When};
use crate::table;

const APPS: Kind = Kind {
    group: "apps",
    ..Kind::PLAIN
};

pub(super) const APPS_KINDS: &[Kind] = &[
    Kind {
        kind: "ControllerRevision",
        plural: "controllerrevisions",
        namespaced: true,
        validate_update: workload_checks::revision_update,
        table: Some(Table {
            columns: &[
                Column::text("Controller"),
                Column::of("Revision", "integer"),
                Column::text("Age"),
            ],
            cells: table::workload::controller_revision,
        }),
        ..APPS
    },
    Kind {
        kind: "DaemonSet",
        plural: "daemonsets",
        counts: true,
        short_names: &["ds"],
        categories: &["all"],
        namespaced: true,
        status: Status::Own,
        default: workload::default_daemon_set,
        validate: workload_checks::daemon_set,
        describes_pods: Some(&["spec", "template"]),
        validate_update: workload_checks::fixed_selector,
        warnings: pod::checks::template_warnings,
        table: Some(Table {
            columns: &[
                Column::of("Desired", "integer"),
                Column::of("Current", "integer"),
                Column::of("Ready", "integer"),
                Column::of("Up-to-date", "integer"),
                Column::of("Available", "integer"),
                Column::text("Node Selector"),
                Column::text("Age"),
                Column::wide("Containers"),
                Column::wide("Images"),
                Column::wide("Selector"),
            ],
            cells: table::workload::daemon_set,
        }),
        ..APPS
    },
    Kind {
        kind: "Deployment",
        plural: "deployments",
        counts: true,
        short_names: &["deploy"],
        categories: &["all"],
        namespaced: true,
        status: Status::Own,
        status_changes: StatusChanges::NoLabels,
        scale: true,
        default: workload::default_deployment,
        validate: workload_checks::deployment,
        describes_pods: Some(&["spec", "template"]),
        validate_update: workload_checks::fixed_selector,
        warnings: pod::checks::template_warnings,
        table: Some(Table {
            columns: &[
                Column::text("Ready"),
                Column::text("Up-to-date"),
                Column::text("Available"),
                Column::text("Age"),
                Column::wide("Containers"),
                Column::wide("Images"),
                Column::wide("Selector"),
            ],
            cells: table::workload::deployment,
        }),
        ..APPS
    },
    Kind {
        kind: "ReplicaSet",
        plural: "replicasets",
        counts: true,
        short_names: &["rs"],
        categories: &["all"],
        namespaced: true,
        status: Status::Own,
        scale: true,
        default: workload::default_replica_set,
        validate: workload_checks::replica_set,
        describes_pods: Some(&["spec", "template"]),
        validate_update: workload_checks::fixed_selector,
        warnings: pod::checks::template_warnings,
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
        ..APPS
    },
    Kind {
        kind: "StatefulSet",
        plural: "statefulsets",
        counts: true,
        inert_fields: &[
            Inert {
                when: When::Is("Delete"),
                ..Inert::set(
                    "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
                    "its claims stay",
                )
            },
            Inert {
                when: When::Is("Delete"),
                ..Inert::set(
                    "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
                    "its claims stay",
                )
            },
        ],
        short_names: &["sts"],
        categories: &["all"],
        namespaced: true,
        status: Status::Own,
        scale: true,
        default: workload::default_stateful_set,
        validate: workload_checks::stateful_set,
        describes_pods: Some(&["spec", "template"]),
        validate_update: workload_checks::stateful_set_update,
        warnings: pod::checks::template_warnings,
        table: Some(Table {
            columns: &[
                Column::text("Ready"),
                Column::text("Age"),
                Column::wide("Containers"),
                Column::wide("Images"),
            ],
            cells: table::workload::stateful_set,
        }),
        ..APPS
    },
];

const BATCH: Kind = Kind {
    group: "batch",
    ..Kind::PLAIN
};

pub(super) const BATCH_KINDS: &[Kind] = &[
    Kind {
        kind: "CronJob",
        plural: "cronjobs",
        counts: true,
        short_names: &["cj"],
        categories: &["all"],
        namespaced: true,
        status: Status::Own,
        default: workload::default_cron_job,
        validate: cron_job_checks::cron_job,
        validate_create: cron_job_checks::cron_job_create,
        validate_update: cron_job_checks::cron_job_update,
        warnings: cron_job_checks::cron_job_warnings,
        describes_pods: Some(&["spec", "jobTemplate", "spec", "template"]),
        table: Some(Table {
            columns: &[
                Column::text("Schedule"),
                Column::text("Timezone"),
                Column::of("Suspend", "boolean"),
                Column::of("Active", "integer"),
                Column::text("Last Schedule"),
                Column::text("Age"),
                Column::wide("Containers"),
                Column::wide("Images"),
                Column::wide("Selector"),
            ],
            cells: table::workload::cron_job,
        }),
        ..BATCH
    },
    Kind {
        kind: "Job",
        plural: "jobs",
        counts: true,
        categories: &["all"],
        namespaced: true,
        status: Status::Own,
        default: workload::default_job,
        begin: workload::generate_selector,
        orphans: true,
        validate: batch_checks::job,
        validate_status: batch_status::job,
        warnings: batch_checks::job_warnings,
        describes_pods: Some(&["spec", "template"]),
        validate_update: batch_checks::job_update,
        selectable: &["status.successful"],
        table: Some(Table {
            columns: &[
                Column::text("Status"),
                Column::text("Completions"),
                Column::text("Duration"),
                Column::text("Age"),
                Column::wide("Containers"),
                Column::wide("Images"),
                Column::wide("Selector"),
            ],
            cells: table::workload::job,
        }),
        ..BATCH
    },
];

const AUTOSCALING: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    ..Kind::PLAIN
};

pub(super) const AUTOSCALING_KINDS: &[Kind] = &[Kind {
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    inert: Some("stored, but nothing scales: there is no autoscaler"),
    short_names: &["hpa"],
    categories: &["all"],
    namespaced: true,
    status: Status::Own,
    ..AUTOSCALING
}];

const POLICY: Kind = Kind {
    group: "policy",
    ..Kind::PLAIN
};

pub(super) const POLICY_KINDS: &[Kind] = &[Kind {
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    counts: true,
    short_names: &["pdb"],
    namespaced: true,
    status: Status::Own,
    validate: cluster::budget,
    table: Some(Table {
        columns: &[
            Column::text("Min Available"),
            Column::text("Max Unavailable"),
            Column::of("Allowed Disruptions", "integer"),
            Column::text("Age"),
        ],
        cells: table::cells::budget,
    }),
    ..POLICY
}];
