//! `storage.k8s.io`.

use crate::builtin::{cluster, volume_checks};
use crate::resource::{Column, Kind, Status, Table};
use crate::table;

const STORAGE: Kind = Kind {
    group: "storage.k8s.io",
    ..Kind::PLAIN
};

pub(super) const STORAGE_KINDS: &[Kind] = &[
    Kind {
        kind: "CSIDriver",
        plural: "csidrivers",
        ..STORAGE
    },
    Kind {
        kind: "CSINode",
        plural: "csinodes",
        ..STORAGE
    },
    Kind {
        kind: "CSIStorageCapacity",
        plural: "csistoragecapacities",
        namespaced: true,
        ..STORAGE
    },
    Kind {
        kind: "StorageClass",
        plural: "storageclasses",
        short_names: &["sc"],
        default: cluster::default_storage_class,
        validate: volume_checks::class,
        validate_update: volume_checks::class_update,
        table: Some(Table {
            columns: &[
                Column::text("Name"),
                Column::text("Provisioner"),
                Column::text("ReclaimPolicy"),
                Column::text("VolumeBindingMode"),
                Column::text("AllowVolumeExpansion"),
                Column::text("Age"),
            ],
            cells: table::storage::class,
        }),
        ..STORAGE
    },
    Kind {
        kind: "VolumeAttachment",
        plural: "volumeattachments",
        status: Status::Own,
        ..STORAGE
    },
];
