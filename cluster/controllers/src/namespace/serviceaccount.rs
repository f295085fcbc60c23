//! Every namespace gets a ServiceAccount `default`, and the certificate authority as ConfigMap `kube-root-ca.crt`.

use std::sync::Arc;
use std::time::Duration;

use afloat_watching::Queue;
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::objects::{ConfigMap, Key, Namespace, ServiceAccount};

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";

/// What a namespace lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) account: bool,
    pub(crate) root_ca: Option<Write>,
}

/// Make it, or put its data right.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Create,
    Update,
}

/// Decides for one namespace.
pub(crate) fn plan(
    namespace: Option<&Namespace>,
    account: Option<&ServiceAccount>,
    root_ca: Option<&ConfigMap>,
    authority: Option<&str>,
) -> Plan {
    if namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
        return Plan::default();
    }
    let write = authority.and_then(|authority| match root_ca {
        None => Some(Write::Create),
        Some(map) if map.data.get("ca.crt").map(String::as_str) != Some(authority) => Some(Write::Update),
        Some(_) => None,
    });
    Plan {
        account: account.is_none(),
        root_ca: write,
    }
}

/// Runs the loop until shutdown.
pub(crate) async fn run_default_accounts(context: Context) -> Result<(), Error> {
    let queue = Arc::new(Queue::default());
    let caches = &context.caches;
    caches.namespaces.ready().await;
    caches.service_accounts.ready().await;
    caches.root_cas.ready().await;
    queue.follow(&caches.namespaces, |namespace| Some(Key::of(&namespace.metadata)));
    queue.follow(&caches.service_accounts, |account| namespace_of(&account.metadata));
    queue.follow(&caches.root_cas, |map| namespace_of(&map.metadata));
    context.work_off(&queue, 4, |key| sync_accounts(&context, key)).await;
    Ok(())
}

fn namespace_of(meta: &kube::api::ObjectMeta) -> Option<Key> {
    meta.namespace.as_deref().map(|namespace| Key::new("", namespace))
}

async fn sync_accounts(context: &Context, key: Key) -> Result<Option<Duration>, Error> {
    let (shell, caches) = (&context.shell, &context.caches);
    let looking = shell.settle(&key).await?;
    let namespace = looking.at(&caches.namespaces).get(&key);
    let account = looking
        .at(&caches.service_accounts)
        .get(&Key::new(key.name.clone(), ACCOUNT));
    let root_ca = looking.at(&caches.root_cas).get(&Key::new(key.name.clone(), ROOT_CA));
    let authority = context.options.cluster_ca.as_deref();
    let plan = plan(namespace.as_deref(), account.as_deref(), root_ca.as_deref(), authority);
    let root_ca = root_ca.map(|map| map.metadata.clone());
    let (writing, namespace) = (looking.write(), &*key.name);
    if plan.account {
        let object = json!({"metadata": {"name": ACCOUNT, "namespace": namespace}});
        shell.create(&writing, &caches.service_accounts, object).await?;
    }
    let data: Value = json!({"ca.crt": authority});
    match (plan.root_ca, root_ca) {
        (Some(Write::Create), _) => {
            let object = json!({"metadata": {"name": ROOT_CA, "namespace": namespace}, "data": data});
            shell.create(&writing, &caches.root_cas, object).await?;
        }
        (Some(Write::Update), Some(meta)) => {
            shell
                .patch(&writing, &caches.root_cas, &meta, None, json!({"data": data}))
                .await?;
        }
        _ => {}
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_namespace_gets_what_it_lacks_and_a_dying_one_nothing() {
        let live = Namespace::default();
        assert_eq!(
            plan(Some(&live), None, None, None),
            Plan {
                account: true,
                root_ca: None
            }
        );
        let account = ServiceAccount::default();
        let stale = ConfigMap::default();
        let decided = plan(Some(&live), Some(&account), Some(&stale), Some("pem"));
        assert_eq!(
            decided,
            Plan {
                account: false,
                root_ca: Some(Write::Update)
            }
        );
        let mut dying = Namespace::default();
        dying.metadata.deletion_timestamp = Some(crate::objects::time::whole_seconds(jiff::Timestamp::UNIX_EPOCH));
        assert_eq!(plan(Some(&dying), None, None, Some("pem")), Plan::default());
        assert_eq!(plan(None, None, None, Some("pem")), Plan::default());
    }
}
