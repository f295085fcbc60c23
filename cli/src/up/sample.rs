//! `afloat sample`: a small web application, running on the cluster of `afloat up`, to play with.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use afloat_api::CloneSet;
use afloat_cluster::own_image;
use afloat_runtime::image::ImageStore;
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client, Resource};
use serde_json::{Value, json};

use crate::embedded::AppImage;
use crate::options::cluster::config;
use crate::options::data_dir::data_dir;
use crate::output;

/// What `kubectl apply -f examples/web.yaml` makes, too.
const OBJECTS: &str = include_str!("../../../examples/web.yaml");
/// Both versions of the application.
const IMAGES: [AppImage; 2] = [("web:v1", "web", "v1"), ("web:v2", "web", "v2")];
/// How long its pods may take.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks at them.
const PAUSE: Duration = Duration::from_millis(100);

/// `afloat sample`
#[derive(Args, Clone, Debug)]
pub(crate) struct SampleOptions {
    /// What keeps its pods: a CloneSet, which changes them in place, or a Deployment, which replaces them
    #[arg(long, value_enum, default_value_t = Keeper::Cloneset)]
    kind: Keeper,
    /// Where the cluster keeps its state [default: a folder of the user's]
    #[arg(long, env = "AFLOAT_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Keeper {
    Cloneset,
    Deployment,
}

pub(crate) fn run_sample(options: &SampleOptions) -> anyhow::Result<i32> {
    let data_dir = data_dir(options.data_dir.as_deref())?;
    let kubeconfig = data_dir.join("kubeconfig");
    let nobody = || {
        format!(
            "no cluster in {}: start one in another terminal with `afloat up`",
            data_dir.display()
        )
    };
    anyhow::ensure!(kubeconfig.is_file(), "{}", nobody());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (pods, port) = runtime.block_on(async {
        let client = Client::try_from(config(Some(&kubeconfig), None).await?)?;
        client.apiserver_version().await.with_context(nobody)?;
        build(&ImageStore::open(&data_dir.join("images"))?)?;
        let (keeper, service) = objects(options.kind)?;
        match options.kind {
            Keeper::Cloneset => put::<CloneSet>(&client, &keeper).await?,
            Keeper::Deployment => put::<Deployment>(&client, &keeper).await?,
        };
        let service = put::<Service>(&client, &service).await?;
        let pods = match options.kind {
            Keeper::Cloneset => ready::<CloneSet>(&client).await?,
            Keeper::Deployment => ready::<Deployment>(&client).await?,
        };
        let port = service.data.pointer("/spec/ports/0/nodePort").and_then(Value::as_u64);
        anyhow::Ok((pods, port.context("the Service web has no node port")?))
    })?;
    output::print(&told(options.kind, pods, port, &kubeconfig.display().to_string()))?;
    Ok(0)
}

/// Its images are of this program, which has the application in it.
fn build(store: &ImageStore) -> anyhow::Result<()> {
    for (name, role, version) in IMAGES {
        let spec = own_image(name, &["app", role], &[("APP_VERSION", version)])?;
        store.build(&spec).with_context(|| format!("cannot build {name}"))?;
    }
    Ok(())
}

/// What keeps the pods, and the Service before them.
fn objects(kind: Keeper) -> anyhow::Result<(Value, Value)> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(OBJECTS)?;
    let service = objects.pop().context("examples/web.yaml has no Service")?;
    let mut keeper = objects.pop().context("examples/web.yaml has no CloneSet")?;
    if kind == Keeper::Deployment {
        keeper["apiVersion"] = json!("apps/v1");
        keeper["kind"] = json!("Deployment");
        if let Some(spec) = keeper["spec"].as_object_mut() {
            spec.remove("updateStrategy");
        }
    }
    Ok((keeper, service))
}

fn api<K: Resource<DynamicType = ()>>(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "default", &ApiResource::erase::<K>(&()))
}

/// Creates an object; one that is there is left as it is.
async fn put<K: Resource<DynamicType = ()>>(client: &Client, object: &Value) -> anyhow::Result<DynamicObject> {
    let kind = K::kind(&());
    let object: DynamicObject = serde_json::from_value(object.clone())?;
    match api::<K>(client).create(&PostParams::default(), &object).await {
        Ok(created) => Ok(created),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let found = api::<K>(client).get("web").await;
            found.with_context(|| format!("cannot read {kind} web"))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            anyhow::bail!("the cluster has no {kind}s: say --kind deployment, or start it with its operator")
        }
        Err(error) => Err(error).with_context(|| format!("cannot create {kind} web")),
    }
}

/// Waits until all its pods are ready; how many they are.
async fn ready<K: Resource<DynamicType = ()>>(client: &Client) -> anyhow::Result<u64> {
    let started = Instant::now();
    loop {
        let found = api::<K>(client).get("web").await?;
        let number = |pointer: &str| found.data.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        let (wanted, ready) = (number("/spec/replicas"), number("/status/readyReplicas"));
        if ready >= wanted {
            return Ok(ready);
        }
        anyhow::ensure!(
            started.elapsed() < READY_LIMIT,
            "{ready} of {wanted} pods are ready after {} s: kubectl describe pods -l app=web",
            READY_LIMIT.as_secs()
        );
        tokio::time::sleep(PAUSE).await;
    }
}

fn told(kind: Keeper, pods: u64, port: u64, kubeconfig: &str) -> String {
    let (name, look) = match kind {
        Keeper::Cloneset => ("clone/web", "afloat watch clone/web"),
        Keeper::Deployment => ("deployment/web", "kubectl rollout status deployment/web"),
    };
    let release = r#"-p '[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"web:v2"}]'"#;
    let keep = match kind {
        Keeper::Cloneset => "its pods stay, with names and addresses",
        Keeper::Deployment => "its pods are replaced; `afloat sample --kind cloneset` would keep them",
    };
    format!(
        "The application web runs in {pods} pods, in version v1; web:v2 is there to be released ({keep}). To try next:\n\n  \
         export KUBECONFIG={kubeconfig}\n  \
         curl http://127.0.0.1:{port}/\n  \
         kubectl get pods,services,endpoints -o wide\n  \
         kubectl patch {name} --type json {release}\n  \
         {look}\n  \
         afloat probe svc/web --duration 10s          # how many requests a release loses\n  \
         kubectl scale {name} --replicas 5\n  \
         kubectl logs -l app=web\n  \
         kubectl delete {name} service/web            # and `afloat sample` again\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_are_those_of_the_example_in_either_kind() {
        let (keeper, service) = objects(Keeper::Cloneset).unwrap();
        assert_eq!(
            (&keeper["kind"], &service["kind"]),
            (&json!("CloneSet"), &json!("Service"))
        );
        let (deployment, _) = objects(Keeper::Deployment).unwrap();
        assert_eq!(deployment["spec"].get("updateStrategy"), None);
        assert_eq!(deployment["spec"]["template"], keeper["spec"]["template"]);
        for object in [&keeper, &deployment] {
            let image = &object["spec"]["template"]["spec"]["containers"][0]["image"];
            assert_eq!(image, IMAGES[0].0);
        }
    }
}
