//! The `kubernetes` Service in namespace `default`, behind which pods find the API server.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::Error;
use crate::context::Context;
use crate::loops::shell::decided_on;
use crate::network::cluster_dns;

const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";
/// Somebody may delete or change it: it is looked at this often (reads only).
const PERIOD: Duration = Duration::from_secs(30);

/// What to do about one of the two objects.
#[derive(Debug, PartialEq)]
pub(crate) enum Plan {
    Nothing,
    Create(Value),
    /// Merge patch.
    Update(Value),
}

/// The Service's address: the first of the range.
pub(crate) fn first_address((network, _): (Ipv4Addr, u8)) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network).saturating_add(1))
}

/// Decides: everything in `wanted` must be in `found`; more may be.
pub(crate) fn plan(found: Option<&Value>, wanted: Value) -> Plan {
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

fn service(address: Ipv4Addr, api_server: SocketAddrV4) -> Value {
    json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": address.to_string(), "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": api_server.port()}],
        },
    })
}

fn slice(api_server: SocketAddrV4) -> Value {
    json!({
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [api_server.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": api_server.port(), "protocol": "TCP"}],
    })
}

/// Runs the loop until shutdown.
pub(crate) async fn run(context: Context) -> Result<(), Error> {
    let mut tick = tokio::time::interval(PERIOD);
    loop {
        tokio::select! {
            () = context.shutdown.cancelled() => return Ok(()),
            _ = tick.tick() => {}
        }
        if let Some(address) = context.options.cluster_dns {
            cluster_dns::keep(&context, address).await?;
        }
        if let Some(api_server) = context.options.api_server {
            let address = first_address(context.options.service_cidr);
            keep::<Service>(&context, NAMESPACE, NAME, service(address, api_server)).await?;
            keep::<EndpointSlice>(&context, NAMESPACE, NAME, slice(api_server)).await?;
        }
    }
}

/// Makes, or mends, an object.
pub(crate) async fn keep<K: Resource<DynamicType = ()>>(
    context: &Context,
    namespace: &str,
    name: &str,
    wanted: Value,
) -> Result<(), Error> {
    let api = context.shell.api::<K>(namespace);
    let found = api.get_opt(name).await?;
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
                api.patch(name, &PatchParams::default(), &patch).await?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_if_absent_left_if_right_mended_if_wrong() {
        let address = first_address((Ipv4Addr::new(10, 96, 0, 0), 16));
        assert_eq!(address, Ipv4Addr::new(10, 96, 0, 1));
        let wanted = service(address, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6443));
        assert!(matches!(plan(None, wanted.clone()), Plan::Create(_)));
        let mut found = wanted.clone();
        found["spec"]["sessionAffinity"] = json!("None");
        assert_eq!(plan(Some(&found), wanted.clone()), Plan::Nothing);
        found["spec"]["ports"][0]["targetPort"] = json!(1);
        assert!(matches!(plan(Some(&found), wanted), Plan::Update(_)));
    }
}
