//! Where the operator looks: everywhere, or in one namespace.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client};

/// All of a kind, or those of a namespace.
pub(crate) fn scoped<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: k8s_openapi::Resource<Scope = k8s_openapi::NamespaceResourceScope> + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}
