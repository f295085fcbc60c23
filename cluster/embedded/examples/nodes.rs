//! A test with real containers: a pod of this very program answers on its address.

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use afloat_cluster::layout::{self, HostError, Inherited};
use afloat_cluster::{Cluster, ClusterOptions};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::runtime::wait::await_condition;
use serde_json::json;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("greet") {
        return greet(); // in the container
    }
    match layout::run(test) {
        Ok(code) => code,
        Err(HostError::Unsupported(why)) => {
            eprintln!("skipped: {why}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn test(inherited: Inherited) -> Result<(), Box<dyn Error>> {
    let cluster = Cluster::start(ClusterOptions::inside(2, &inherited)).await?;
    cluster.wait_ready(Duration::from_secs(60)).await?;
    cluster.build_own_image("greeter:v1", &["greet"], &[]).await?;

    let pods: Api<Pod> = Api::namespaced(cluster.client("test"), "default");
    let pod = json!({"metadata": {"name": "greeter"}, "spec": {"containers": [{
        "name": "greeter", "image": "greeter:v1",
        "readinessProbe": {"tcpSocket": {"port": 8080}},
    }]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?)
        .await?;
    let ready = await_condition(pods, "greeter", is_ready);
    let pod = tokio::time::timeout(Duration::from_secs(60), ready).await??;

    let ip = pod
        .and_then(|pod| pod.status?.pod_ip)
        .ok_or("a pod without an address")?;
    let mut words = String::new();
    std::net::TcpStream::connect((ip, 8080))?.read_to_string(&mut words)?;
    assert_eq!(words, "hello\n");
    cluster.stop().await;
    Ok(())
}

fn is_ready(pod: Option<&Pod>) -> bool {
    let status = pod.and_then(|pod| pod.status.as_ref());
    let mut conditions = status.into_iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Says hello to everybody.
fn greet() -> ExitCode {
    let Ok(listener) = std::net::TcpListener::bind(("0.0.0.0", 8080)) else {
        return ExitCode::FAILURE;
    };
    for mut stream in listener.incoming().flatten() {
        let _ = stream.write_all(b"hello\n");
    }
    ExitCode::SUCCESS
}
