//! What kind a type is, for kube's clients and caches.

/// Implements `k8s_openapi::{Resource, Metadata}` for a type with a `metadata: ObjectMeta`: the type, its API group (none for
/// the core group) and version, its kind and plural, and `NamespaceResourceScope` or `ClusterResourceScope`.
#[macro_export]
macro_rules! kind {
    ($type:ty, $version:literal, $kind:literal, $plural:literal, $scope:ident) => {
        $crate::kind!(@ $type, "", $version, $version, $kind, $plural, $scope);
    };
    ($type:ty, $group:literal / $version:literal, $kind:literal, $plural:literal, $scope:ident) => {
        $crate::kind!(@ $type, $group, $version, concat!($group, "/", $version), $kind, $plural, $scope);
    };
    (@ $type:ty, $group:literal, $version:literal, $api:expr, $kind:literal, $plural:literal, $scope:ident) => {
        impl ::k8s_openapi::Resource for $type {
            const API_VERSION: &'static str = $api;
            const GROUP: &'static str = $group;
            const KIND: &'static str = $kind;
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = ::k8s_openapi::$scope;
        }

        impl ::k8s_openapi::Metadata for $type {
            type Ty = ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}
