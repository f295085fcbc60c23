//! What the loops know of a request for a certificate.

use std::collections::BTreeMap;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

use super::kind::{Kind, partial_kind};

/// A CertificateSigningRequest.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CertificateSigningRequest {
    pub(crate) metadata: ObjectMeta,
    pub(crate) spec: CertificateSigningRequestSpec,
    pub(crate) status: CertificateSigningRequestStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct CertificateSigningRequestSpec {
    /// PEM, in base64.
    pub(crate) request: String,
    pub(crate) signer_name: String,
    pub(crate) usages: Vec<String>,
    pub(crate) expiration_seconds: Option<i64>,
    pub(crate) username: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CertificateSigningRequestStatus {
    /// PEM, in base64; empty until it is signed.
    pub(crate) certificate: String,
    /// Whole: they are written back.
    pub(crate) conditions: Vec<Value>,
}

impl CertificateSigningRequest {
    /// The condition of this type, if it is there.
    pub(crate) fn condition(&self, kind: &str) -> Option<&Value> {
        self.status
            .conditions
            .iter()
            .find(|condition| condition["type"] == kind)
    }
}

partial_kind!(
    CertificateSigningRequest,
    "certificates.k8s.io",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    ClusterResourceScope
);

impl Kind for CertificateSigningRequest {}
