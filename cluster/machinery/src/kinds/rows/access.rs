//! Who somebody is and what they may do.

use crate::builtin::{certificates, rbac};
use crate::names;
use crate::resource::{Column, Given, Grants, Kind, Review, Serving, Status, Table};
use crate::table;

const AUTHENTICATION: Kind = Kind {
    group: "authentication.k8s.io",
    name: names::path_segment,
    ..Kind::PLAIN
};

pub(super) const AUTHENTICATION_KINDS: &[Kind] = &[
    Kind {
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        serving: Serving::Review(Review::Subject),
        ..AUTHENTICATION
    },
    Kind {
        kind: "TokenReview",
        plural: "tokenreviews",
        serving: Serving::Review(Review::Token),
        ..AUTHENTICATION
    },
];

const AUTHORIZATION: Kind = Kind {
    group: "authorization.k8s.io",
    name: names::path_segment,
    ..Kind::PLAIN
};

pub(super) const AUTHORIZATION_KINDS: &[Kind] = &[
    Kind {
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        namespaced: true,
        serving: Serving::Review(Review::Access),
        ..AUTHORIZATION
    },
    Kind {
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        serving: Serving::Review(Review::OwnAccess),
        ..AUTHORIZATION
    },
    Kind {
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        serving: Serving::Review(Review::Rules),
        ..AUTHORIZATION
    },
    Kind {
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        serving: Serving::Review(Review::Access),
        ..AUTHORIZATION
    },
];

const CERTIFICATES: Kind = Kind {
    group: "certificates.k8s.io",
    ..Kind::PLAIN
};

pub(super) const CERTIFICATES_KINDS: &[Kind] = &[Kind {
    kind: "CertificateSigningRequest",
    plural: "certificatesigningrequests",
    short_names: &["csr"],
    status: Status::Own,
    subresources: &["approval"],
    name: names::path_segment,
    keep: certificates::keep_spec,
    keep_status: certificates::keep_approval,
    validate: certificates::validate,
    validate_status: certificates::validate_status,
    given: Given::Requester,
    grants: Some(Grants::Certificate),
    table: Some(Table {
        columns: &[
            Column::text("Age"),
            Column::text("SignerName"),
            Column::text("Requestor"),
            Column::text("RequestedDuration"),
            Column::text("Condition"),
        ],
        cells: table::certificates::request,
    }),
    selectable: &["spec.signerName"],
    ..CERTIFICATES
}];

const RBAC: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    name: names::path_segment,
    ..Kind::PLAIN
};

const ROLES: Option<Table> = Some(Table {
    columns: &[Column::of("Created At", "date")],
    cells: table::access::role,
});

const BINDINGS: Option<Table> = Some(Table {
    columns: &[
        Column::text("Role"),
        Column::text("Age"),
        Column::wide("Users"),
        Column::wide("Groups"),
        Column::wide("ServiceAccounts"),
    ],
    cells: table::access::binding,
});

pub(super) const RBAC_KINDS: &[Kind] = &[
    Kind {
        kind: "ClusterRole",
        plural: "clusterroles",
        grants: Some(Grants::Role),
        table: ROLES,
        validate: rbac::validate_cluster_role,
        ..RBAC
    },
    Kind {
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        grants: Some(Grants::Binding),
        table: BINDINGS,
        default: rbac::default_binding,
        validate: rbac::validate_cluster_binding,
        validate_update: rbac::validate_binding_update,
        ..RBAC
    },
    Kind {
        kind: "Role",
        plural: "roles",
        grants: Some(Grants::Role),
        table: ROLES,
        validate: rbac::validate_role,
        namespaced: true,
        ..RBAC
    },
    Kind {
        kind: "RoleBinding",
        plural: "rolebindings",
        grants: Some(Grants::Binding),
        table: BINDINGS,
        default: rbac::default_binding,
        validate: rbac::validate_binding,
        validate_update: rbac::validate_binding_update,
        namespaced: true,
        ..RBAC
    },
];
