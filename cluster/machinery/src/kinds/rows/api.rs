//! What changes the API itself: definitions, admission, API services.

use crate::builtin::{admission, cluster, crd};
use crate::resource::{Column, Given, Inert, Kind, Status, StatusChanges, Table};
use crate::table;

const ADMISSIONREGISTRATION: Kind = Kind {
    group: "admissionregistration.k8s.io",
    beyond_policies: true,
    brings_expressions: true,
    ..Kind::PLAIN
};

pub(super) const ADMISSIONREGISTRATION_KINDS: &[Kind] = &[
    Kind {
        kind: "MutatingWebhookConfiguration",
        plural: "mutatingwebhookconfigurations",
        counts: true,
        default: admission::default_mutating_webhooks,
        inert: Some("asked about what is created; not about changes and deletions"),
        categories: &["api-extensions"],
        ..ADMISSIONREGISTRATION
    },
    Kind {
        kind: "ValidatingAdmissionPolicy",
        plural: "validatingadmissionpolicies",
        counts: true,
        inert_fields: &[Inert::set("spec.auditAnnotations", "kept, and not evaluated")],
        categories: &["api-extensions"],
        status: Status::Own,
        status_changes: StatusChanges::Nothing,
        default: admission::default_policy,
        validate: admission::validate_policy,
        ..ADMISSIONREGISTRATION
    },
    Kind {
        kind: "ValidatingAdmissionPolicyBinding",
        plural: "validatingadmissionpolicybindings",
        counts: true,
        categories: &["api-extensions"],
        default: admission::default_binding,
        validate: admission::validate_binding,
        ..ADMISSIONREGISTRATION
    },
    Kind {
        kind: "ValidatingWebhookConfiguration",
        plural: "validatingwebhookconfigurations",
        counts: true,
        default: admission::default_validating_webhooks,
        categories: &["api-extensions"],
        ..ADMISSIONREGISTRATION
    },
];

const APIEXTENSIONS: Kind = Kind {
    group: "apiextensions.k8s.io",
    ..Kind::PLAIN
};

pub(super) const APIEXTENSIONS_KINDS: &[Kind] = &[Kind {
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    counts: true,
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    status: Status::Own,
    keeps_nulls: true,
    brings_expressions: true,
    default: crd::default,
    validate: crd::validate,
    validate_update: crd::validate_update,
    given: Given::AcceptedNames,
    table: Some(Table {
        columns: &[Column::of("Created At", "date")],
        cells: table::cells::definition,
    }),
    ..APIEXTENSIONS
}];

const APIREGISTRATION: Kind = Kind {
    group: "apiregistration.k8s.io",
    ..Kind::PLAIN
};

pub(super) const APIREGISTRATION_KINDS: &[Kind] = &[Kind {
    kind: "APIService",
    plural: "apiservices",
    default: cluster::default_api_service,
    inert: Some("stored, but no request is passed on to another API server"),
    categories: &["api-extensions"],
    status: Status::Own,
    status_changes: StatusChanges::Nothing,
    ..APIREGISTRATION
}];
