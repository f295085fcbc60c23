//! Who the loops are in these tests: who they are in a cluster, with no other rights.

use afloat_apiserver::User;
use afloat_controllers::Identity;

/// The loops have no rights but those that they have in a cluster.
pub(crate) fn server_options() -> afloat_apiserver::Options {
    afloat_apiserver::Options {
        roles: afloat_controllers::roles(),
        ..afloat_apiserver::Options::default()
    }
}

/// Who the loop of this name is.
pub(crate) fn user(name: &str) -> User {
    match afloat_controllers::identity(name) {
        Identity::User(name) => User::named(name, &["system:authenticated"]),
        Identity::Account(name) => User::service_account("kube-system", name),
    }
}
