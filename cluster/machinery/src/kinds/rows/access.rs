//! Who somebody is and what they may do.

use crate::builtin::rbac;
use crate::names;
use crate::resource::{Grants, Kind, Review, Serving, Status};

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
    inert: Some("stored, but nobody signs it"),
    short_names: &["csr"],
    status: Status::Own,
    subresources: &["approval"],
    selectable: &["spec.signerName"],
    ..CERTIFICATES
}];

const RBAC: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    name: names::path_segment,
    ..Kind::PLAIN
};

pub(super) const RBAC_KINDS: &[Kind] = &[
    Kind {
        kind: "ClusterRole",
        plural: "clusterroles",
        grants: Some(Grants::Role),
        validate: rbac::validate_cluster_role,
        ..RBAC
    },
    Kind {
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        grants: Some(Grants::Binding),
        default: rbac::default_binding,
        validate: rbac::validate_cluster_binding,
        validate_update: rbac::validate_binding_update,
        ..RBAC
    },
    Kind {
        kind: "Role",
        plural: "roles",
        grants: Some(Grants::Role),
        validate: rbac::validate_role,
        namespaced: true,
        ..RBAC
    },
    Kind {
        kind: "RoleBinding",
        plural: "rolebindings",
        grants: Some(Grants::Binding),
        default: rbac::default_binding,
        validate: rbac::validate_binding,
        validate_update: rbac::validate_binding_update,
        namespaced: true,
        ..RBAC
    },
];
