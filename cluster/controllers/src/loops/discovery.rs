//! Which kinds there are, custom ones included: what the garbage collector watches and a dying namespace must lose.

use kube::Client;
use kube::api::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};

use crate::Error;

/// A kind that can be listed, watched and deleted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Discovered {
    pub(crate) resource: ApiResource,
    pub(crate) namespaced: bool,
    /// Whether its objects can be watched as well as listed and deleted.
    pub(crate) watchable: bool,
}

/// News, not state: nobody owns them and they go by themselves.
fn is_ephemeral(resource: &ApiResource) -> bool {
    resource.kind == "Event"
}

/// Asks the API server for its kinds, each at its most stable version (a group's
/// preferred version need not have all of its kinds). Events are left out.
///
/// # Errors
/// What the API server answers.
pub(crate) async fn discover(client: &Client) -> Result<Vec<Discovered>, Error> {
    let discovery = Discovery::new(client.clone()).run().await?;
    let mut kinds = Vec::new();
    for group in discovery.groups_alphabetical() {
        for (resource, capabilities) in group.resources_by_stability() {
            let can = |verb| capabilities.supports_operation(verb);
            if can(verbs::LIST) && can(verbs::DELETE) && !is_ephemeral(&resource) {
                kinds.push(Discovered {
                    resource,
                    namespaced: capabilities.scope == Scope::Namespaced,
                    watchable: can(verbs::WATCH),
                });
            }
        }
    }
    Ok(kinds)
}
