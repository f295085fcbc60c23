//! What the operator and the reporters of proxies may do in a cluster of this process: what they may in any other.

use afloat_api::names;
use afloat_cluster::User;
use anyhow::Context as _;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

/// Role and binding of the reporters. Not the agents' own: an installation may come and go beside them.
const REPORTERS: &str = "system:afloat:reporters";
const NAMESPACE: &str = "kube-system";

/// Who reports on the proxies of this process.
pub(super) fn reporter() -> User {
    User::service_account(NAMESPACE, afloat_install::AGENT)
}

/// What they may do: what agents on real nodes may.
pub(super) fn of_reporters() -> Vec<Value> {
    let group = "rbac.authorization.k8s.io";
    let [whole, secrets] = afloat_install::agent_rules();
    let pair = |kind: &str, rules: Value, namespace: Option<&str>| {
        let object = |kind: String| {
            let metadata = json!({"name": REPORTERS, "namespace": namespace});
            json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": metadata})
        };
        let (mut role, mut binding) = (object(kind.to_owned()), object(format!("{kind}Binding")));
        role["rules"] = rules;
        binding["roleRef"] = json!({"apiGroup": group, "kind": kind, "name": REPORTERS});
        binding["subjects"] =
            json!([{"kind": "ServiceAccount", "name": afloat_install::AGENT, "namespace": NAMESPACE}]);
        [role, binding]
    };
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names::DAEMON_NAMESPACE}});
    let mut all = vec![namespace];
    all.extend(pair("ClusterRole", whole, None));
    all.extend(pair("Role", secrets, Some(names::DAEMON_NAMESPACE)));
    all
}

/// Makes objects, each of which is namespace, account, role, policy or binding; what is there becomes as it should be.
pub(super) async fn install(client: &Client, objects: &[Value]) -> anyhow::Result<()> {
    for value in objects {
        let object: DynamicObject = serde_json::from_value(value.clone())?;
        let types = object.types.as_ref().context("an object without a kind")?;
        let resource = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
        let api: Api<DynamicObject> = match object.namespace() {
            Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object.name_any();
        let what = || format!("cannot make what the operator needs: {} {name}", resource.kind);
        match api.create(&PostParams::default(), &object).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let own = ["rules", "subjects", "spec"]
                    .into_iter()
                    .filter(|field| value.get(field).is_some());
                let patch = Value::Object(own.map(|field| (field.to_owned(), value[field].clone())).collect());
                let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                patched.with_context(what)?;
            }
            Err(error) => return Err(error).with_context(what),
        }
    }
    Ok(())
}
