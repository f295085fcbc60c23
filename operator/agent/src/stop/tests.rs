use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::fake::{FakeRuntime, container};

fn handler(value: serde_json::Value) -> LifecycleHandler {
    serde_json::from_value(value).unwrap()
}

async fn stopped(handler: Option<LifecycleHandler>, grace_seconds: u64) -> (Stopped, Vec<String>) {
    let runtime = FakeRuntime::default();
    let mut container = container("1", "u", "app", Timestamp::UNIX_EPOCH);
    container.ports = serde_json::from_value(json!([{"name": "http", "containerPort": 80}])).unwrap();
    runtime.put_container(container.clone());
    runtime.exits("/false", 3);
    let grace = Duration::from_secs(grace_seconds);
    let stopped = stop_container(&runtime, &container, handler.as_ref(), grace)
        .await
        .unwrap();
    (stopped, runtime.journal())
}

#[tokio::test(start_paused = true)]
async fn a_hook_runs_first_and_takes_of_the_grace() {
    let exec = handler(json!({"exec": {"command": ["/bye", "now"]}}));
    let (ended, journal) = stopped(Some(exec.clone()), 30).await;
    assert_eq!(ended.hook, None);
    assert_eq!(journal, ["exec fake://1 /bye now", "stop fake://1 30s"]);
    let (ended, journal) = stopped(Some(handler(json!({"sleep": {"seconds": 12}}))), 30).await;
    assert_eq!(
        (ended.hook, journal.as_slice()),
        (None, ["stop fake://1 18s".to_owned()].as_slice())
    );
    let (_, journal) = stopped(Some(exec), 0).await;
    assert_eq!(journal, ["stop fake://1 2s"], "no time, no hook, and the least grace");
    let (_, journal) = stopped(None, 7).await;
    assert_eq!(journal, ["stop fake://1 7s"]);
}

#[tokio::test(start_paused = true)]
async fn a_hook_that_fails_or_is_late_keeps_nobody_alive() {
    for (hook, why, stop) in [
        (
            json!({"exec": {"command": ["/false"]}}),
            "command '/false' exited with 3",
            "stop fake://1 5s",
        ),
        (
            json!({"sleep": {"seconds": 60}}),
            "it did not end within 5 s",
            "stop fake://1 2s",
        ),
        (
            json!({"httpGet": {"port": "other"}}),
            "container app has no port String(\"other\")",
            "stop fake://1 5s",
        ),
        (
            json!({}),
            "it has none of exec, httpGet and sleep (tcpSocket is not supported for hooks)",
            "stop fake://1 5s",
        ),
    ] {
        let (ended, journal) = stopped(Some(handler(hook)), 5).await;
        assert_eq!(ended.hook.as_deref(), Some(why));
        assert_eq!(journal.last().map(String::as_str), Some(stop), "{why}");
    }
}
