//! The agent's view of a node's runtime with a real one: Debian's containerd, started by the test, with real containers.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do
#![allow(clippy::too_many_lines)] // a story is told in one piece

mod archive;
mod containerd;
mod kubelet;

use std::time::{Duration, Instant};

use afloat_agent::cri::{Cri, Endpoint};
use afloat_agent::runtime::{ContainerState, NodeContainer, NodeRuntime, Progress, Pull, PullError, RuntimeError};
use afloat_agent::stop::stop_container;

use containerd::Containerd;
use kubelet::Kubelet;

const PAUSE: &str = "test.local/pause:1";
const WEB: &str = "test.local/team/web:v1";
/// Ends at SIGTERM, with 7.
const POLITE: &str = "trap 'exit 7' TERM; while :; do sleep 0.1; done";
/// Heeds nothing.
const DEAF: &str = "trap '' TERM; while :; do sleep 0.1; done";

fn start() -> Option<Containerd> {
    let containerd = Containerd::start(PAUSE)?;
    for (file, name, entrypoint) in [("pause.tar", PAUSE, "/pause"), ("web.tar", WEB, "/bin/sh")] {
        let path = containerd.dir().join(file);
        archive::write(&path, name, file, entrypoint);
        containerd.import(&path);
    }
    Some(containerd)
}

fn cri(containerd: &Containerd) -> Cri {
    Cri::new(Endpoint::Socket(containerd.socket()), "/proc".as_ref())
}

/// What the runtime knows of an image comes a moment after its import.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn only(runtime: &Cri, uid: &str) -> NodeContainer {
    let mut all = runtime.containers(Some(uid)).await.expect("a list");
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[tokio::test]
async fn what_runs_is_seen_and_stopped_as_gently_as_it_can_be() {
    let Some(containerd) = start() else { return };
    let runtime = cri(&containerd);
    assert_eq!(runtime.name().await.as_deref(), Ok("containerd"));
    let image = until("the image", async || runtime.image(WEB).await.expect("an answer")).await;
    assert!(image.answers(WEB), "{image:?}");
    assert!(image.id.starts_with("sha256:") && image.size_bytes > 0, "{image:?}");
    assert!(
        runtime
            .images()
            .await
            .expect("a list")
            .iter()
            .any(|other| other.id == image.id)
    );
    assert_eq!(runtime.image("test.local/none:v1").await, Ok(None));

    let kubelet = Kubelet::connect(&containerd.socket()).await;
    let pod = kubelet.run_pod("web-0", "uid-0", containerd.dir()).await;
    let notes = [
        ("io.kubernetes.container.hash", "3c7d3f1a"),
        ("io.kubernetes.pod.terminationGracePeriod", "9"),
        (
            "io.kubernetes.container.preStopHandler",
            r#"{"exec":{"command":["/bin/sh","-c","exit 3"]}}"#,
        ),
    ];
    let id = kubelet.run(&pod, 0, WEB, POLITE, &notes).await;
    let container = only(&runtime, &pod.uid).await;
    assert_eq!(container.id, format!("containerd://{id}"));
    assert_eq!(
        (&*container.pod_name, &*container.name, container.restart_count),
        ("web-0", "app", 0)
    );
    assert_eq!(
        (container.state, container.hash),
        (ContainerState::Running, Some(0x3c7d_3f1a))
    );
    assert_eq!(container.grace_seconds, Some(9));
    assert!(container.started_at.is_some());
    let environment = runtime.environment(&container.id).await.expect("variables");
    assert_eq!(environment.get("ATTEMPT").map(String::as_str), Some("0"));
    assert_eq!(environment.get("FROM").map(String::as_str), Some("image"));

    let command = |text: &str| ["/bin/sh", "-c", text].map(String::from).to_vec();
    let said = runtime
        .exec(
            &container.id,
            &command("echo out; echo err >&2; exit 4"),
            Duration::from_secs(60),
        )
        .await;
    let said = said.expect("it runs");
    assert_eq!((said.code, said.output.as_str()), (4, "out\nerr\n"));
    let late = runtime
        .exec(&container.id, &command("sleep 60"), Duration::from_secs(1))
        .await;
    assert!(late.is_err(), "{late:?}");

    let grace = Duration::from_secs(60);
    let stopped = stop_container(&runtime, &container, container.pre_stop.as_ref(), grace)
        .await
        .expect("it ends");
    assert!(stopped.hook.expect("the hook fails").contains("exited with 3"));
    assert_eq!(
        only(&runtime, &pod.uid).await.state,
        ContainerState::Exited { code: Some(7) },
        "it heeds its signal"
    );
    assert_eq!(
        runtime.stop(&container.id, grace).await,
        Ok(()),
        "again, which changes nothing"
    );

    kubelet.run(&pod, 1, WEB, DEAF, &[]).await;
    let all = runtime.containers(Some(&pod.uid)).await.expect("a list");
    let second = all.last().expect("the newest");
    assert_eq!(
        (all.len(), second.restart_count, second.state),
        (2, 1, ContainerState::Running)
    );
    runtime
        .stop(&second.id, Duration::from_secs(1))
        .await
        .expect("it is killed");
    let all = runtime.containers(None).await.expect("a list");
    assert!(
        all.iter()
            .all(|container| matches!(container.state, ContainerState::Exited { .. }))
    );
    let gone = runtime.stop("containerd://none", Duration::ZERO).await;
    assert!(matches!(gone, Err(RuntimeError::NotFound(_))), "{gone:?}");
    let foreign = runtime.stop("cri-o://1", Duration::ZERO).await;
    assert!(matches!(foreign, Err(RuntimeError::NotFound(_))), "{foreign:?}");
    kubelet.remove(&pod).await;
}

#[tokio::test]
async fn a_runtime_that_was_killed_is_found_again_with_its_containers() {
    let Some(mut containerd) = start() else { return };
    let runtime = cri(&containerd);
    let kubelet = Kubelet::connect(&containerd.socket()).await;
    until("the image", async || runtime.image(WEB).await.expect("an answer")).await;
    let pod = kubelet.run_pod("web-0", "uid-0", containerd.dir()).await;
    kubelet.run(&pod, 0, WEB, POLITE, &[]).await;
    let before = only(&runtime, &pod.uid).await;
    containerd.kill();
    let away = runtime.containers(None).await;
    assert!(matches!(away, Err(RuntimeError::Unavailable(_))), "{away:?}");
    let pull = Pull {
        reference: WEB.into(),
        ..Pull::default()
    };
    let unpulled = runtime.pull(&pull, &Progress::default()).await;
    assert!(matches!(unpulled, Err(PullError::Unavailable(_))), "{unpulled:?}");
    containerd.run();
    let after = until("the same container", async || {
        let all = runtime.containers(Some(&pod.uid)).await.ok()?;
        all.into_iter().next()
    })
    .await;
    assert_eq!((after.id, after.state), (before.id.clone(), ContainerState::Running));
    runtime
        .stop(&before.id, Duration::from_secs(60))
        .await
        .expect("it ends");
    Kubelet::connect(&containerd.socket()).await.remove(&pod).await;
}
