//! The two Services that the cluster itself needs: `kubernetes`, behind which pods find the API server, and `kube-dns`.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::loops::shell::decided_on;

use super::{cluster_dns, kubernetes_service};

/// Somebody may delete or change it: it is looked at this often (reads only).
const PERIOD: Duration = Duration::from_secs(30);

/// What to do about one object.
#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Create(Value),
    /// Merge patch.
    Update(Value),
}

/// Decides: everything in `wanted` must be in `found`; more may be.
fn plan(found: Option<&Value>, wanted: Value) -> Plan {
    match found {
        None => Plan::Create(wanted),
        Some(found) if contains(found, &wanted) => Plan::Nothing,
        Some(_) => Plan::Update(wanted),
    }
}

fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, value)| found.get(name).is_some_and(|found| contains(found, value))),
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| contains(found, wanted))
        }
        _ => found == wanted,
    }
}

/// Runs the loop until shutdown.
pub(crate) async fn run_own_services(context: Context) -> Result<(), Error> {
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        if let Some(address) = context.options.cluster_dns {
            keep::<Service>(&context, cluster_dns::service(address)).await?;
        }
        if let Some(api_server) = context.options.api_server {
            let address = kubernetes_service::address(context.options.service_cidr);
            keep::<Service>(&context, kubernetes_service::service(address, api_server)).await?;
            keep::<Endpoints>(&context, kubernetes_service::endpoints(api_server)).await?;
            keep::<EndpointSlice>(&context, kubernetes_service::slice(api_server)).await?;
        }
    }
}

/// Makes, or mends, an object.
async fn keep<K: Resource<DynamicType = ()>>(context: &Context, wanted: Value) -> Result<(), Error> {
    let of = |field: &str| wanted["metadata"][field].as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (of("namespace"), of("name"));
    let api = context.shell.api::<K>(&namespace);
    let found = api.get_opt(&name).await?;
    let found_json = found.as_ref().map(serde_json::to_value).transpose()?;
    match plan(found_json.as_ref(), wanted) {
        Plan::Nothing => {}
        Plan::Create(mut object) => {
            object["apiVersion"] = json!(K::api_version(&()));
            object["kind"] = json!(K::kind(&()));
            let object: DynamicObject = serde_json::from_value(object)?;
            api.create(&PostParams::default(), &object).await?;
        }
        Plan::Update(patch) => {
            if let Some(found) = &found {
                let patch = Patch::Merge(decided_on(&found.metadata, patch));
                api.patch(&name, &PatchParams::default(), &patch).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;

    #[test]
    fn made_if_absent_left_if_right_mended_if_wrong() {
        let address = kubernetes_service::address((Ipv4Addr::new(10, 96, 0, 0), 16));
        assert_eq!(address, Ipv4Addr::new(10, 96, 0, 1));
        let wanted = kubernetes_service::service(address, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6443));
        assert!(matches!(plan(None, wanted.clone()), Plan::Create(_)));
        let mut found = wanted.clone();
        found["spec"]["sessionAffinity"] = json!("None");
        assert_eq!(plan(Some(&found), wanted.clone()), Plan::Nothing);
        found["spec"]["ports"][0]["targetPort"] = json!(1);
        assert!(matches!(plan(Some(&found), wanted), Plan::Update(_)));
    }
}
