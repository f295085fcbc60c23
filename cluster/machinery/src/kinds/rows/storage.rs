//! `storage.k8s.io`.

use crate::builtin::{cluster, volume_checks};
use crate::resource::{Column, Inert, Kind, Status, StatusChanges, Table};
use crate::table;

const STORAGE: Kind = Kind {
    group: "storage.k8s.io",
    ..Kind::PLAIN
};

pub(super) const STORAGE_KINDS: &[Kind] = &[
    Kind {
        kind: "CSIDriver",
        plural: "csidrivers",
        default: cluster::default_csi_driver,
        inert: Some("stored, but no CSI driver can run here"),
        ..STORAGE
    },
    Kind {
        kind: "CSINode",
        plural: "csinodes",
        inert: Some("stored, but no CSI driver can run here"),
        ..STORAGE
    },
    Kind {
        kind: "CSIStorageCapacity",
        plural: "csistoragecapacities",
        inert: Some("stored, but no CSI driver can run here"),
        namespaced: true,
        ..STORAGE
    },
    Kind {
        kind: "StorageClass",
        plural: "storageclasses",
        inert_fields: &[
            Inert::set("mountOptions", "they are not given to the mount"),
            Inert::set("allowVolumeExpansion", "volumes do not grow"),
            Inert::set("allowedTopologies", "nobody looks at it"),
        ],
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
        inert: Some("stored, but no CSI driver can run here"),
        status: Status::Own,
        status_changes: StatusChanges::Nothing,
        ..STORAGE
    },
];
