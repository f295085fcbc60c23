//! Init containers, restart policies and back-off.

use serde_json::{Value, json};

use super::{Ground, OBEDIENT, ready, script, state};
use crate::cluster::{condition, container, wait_until};

#[test]
fn init_containers_run_one_after_another_before_the_others() {
    let Some(ground) = Ground::new() else { return };
    let init = json!([
        script("first", "say first-begins; sleep 1; say first-ends"),
        // Fails until it is let: retried, with the first not run again.
        script(
            "second",
            "say second-tries; test -e /record/go || exit 5; say second-ends"
        ),
    ]);
    ground.create(
        "ordered",
        json!({"initContainers": init, "containers": [script("app", OBEDIENT)]}),
    );
    ground.wait_said("ordered", "second-tries");
    let pod = ground.wait("a try that failed", "ordered", |pod| {
        pod["status"]["initContainerStatuses"][1]["restartCount"].as_u64() >= Some(1)
    });
    assert_eq!(pod["status"]["phase"], "Pending");
    assert_eq!(condition(&pod, "Initialized"), Some("False"));
    assert_eq!(state(&pod, "app").1["reason"], "PodInitializing");
    wait_until("kubectl's word for it", || {
        let line = ground.cluster.kubectl(&["get", "pod", "ordered", "--no-headers"]);
        ["Init:1/2", "Init:Error", "Init:CrashLoopBackOff"]
            .iter()
            .any(|word| line.contains(word))
    });
    ground.put("ordered", "go");
    let pod = ground.wait("Ready", "ordered", ready);
    assert_eq!(condition(&pod, "Initialized"), Some("True"));
    let record = ground.record("ordered");
    record.in_order(&["first-begins", "first-ends", "second-tries", "second-ends", "runs"]);
    assert_eq!((record.count("first-begins"), record.count("second-ends")), (1, 1));

    // They do not run again when an application container does.
    ground.cluster.kubectl(&["exec", "ordered", "--", "kill", "1"]);
    ground.wait("a restart", "ordered", |pod| {
        ready(pod) && container(pod, "app")["restartCount"] == 1
    });
    assert_eq!(ground.record("ordered").count("first-begins"), 1);
}

#[test]
fn an_init_container_that_fails_ends_a_pod_that_never_restarts() {
    let Some(ground) = Ground::new() else { return };
    let spec = json!({"initContainers": [script("init", "exit 4")], "containers": [script("app", OBEDIENT)], "restartPolicy": "Never"});
    ground.create("never", spec);
    let pod = ground.wait("Failed", "never", |pod| pod["status"]["phase"] == "Failed");
    let end = &pod["status"]["initContainerStatuses"][0]["state"]["terminated"];
    assert_eq!((&end["exitCode"], &end["reason"]), (&json!(4), &json!("Error")));
    assert!(
        ground
            .cluster
            .kubectl(&["get", "pod", "never", "--no-headers"])
            .contains("Init:Error")
    );
    assert_eq!(ground.record("never").count("runs"), 0);
}

#[test]
fn sidecars_start_first_and_stop_last() {
    let Some(ground) = Ground::new() else { return };
    let sidecar = |name: &str| {
        let text = format!("trap 'say {name}-term; exit 0' TERM; say {name}; while :; do sleep 0.1; done");
        let mut sidecar = script(name, &text);
        sidecar["restartPolicy"] = "Always".into();
        sidecar
    };
    let mut gated = sidecar("gated");
    gated["startupProbe"] = super::exec("test -e /record/go");
    gated["startupProbe"]["periodSeconds"] = 1.into();
    gated["startupProbe"]["failureThreshold"] = 1000.into();
    let app = script(
        "app",
        "trap 'say app-term; sleep 1; say app-end; exit 0' TERM; say app; while :; do sleep 0.1; done",
    );
    ground.create(
        "sidecars",
        json!({"initContainers": [gated, sidecar("second")], "containers": [app]}),
    );
    ground.wait_said("sidecars", "gated");
    let started = |pod: &Value| pod["status"]["initContainerStatuses"][0]["started"].clone();
    let pod = ground.wait("a status", "sidecars", |pod| started(pod) == false);
    assert_eq!(condition(&pod, "Initialized"), Some("False"));
    assert_eq!(
        ground.record("sidecars").count("second"),
        0,
        "the startup probe is a gate"
    );
    ground.put("sidecars", "go");
    ground.wait("Ready", "sidecars", ready);
    ground
        .wait_said("sidecars", "app")
        .in_order(&["gated", "second", "app"]);

    ground.delete("sidecars", &[]);
    ground.wait_gone("sidecars");
    ground
        .record("sidecars")
        .in_order(&["app-term", "app-end", "second-term", "gated-term"]);
}

#[test]
fn a_sidecar_does_not_keep_a_job_from_its_end() {
    let Some(ground) = Ground::new() else { return };
    let mut sidecar = script("sidecar", OBEDIENT);
    sidecar["restartPolicy"] = "Always".into();
    // Who is asked to stop before it has begun hears nothing.
    let app = script(
        "app",
        "until /bin/busybox grep runs /record/log; do sleep 0.1; done; say app",
    );
    let spec = json!({"initContainers": [sidecar], "containers": [app], "restartPolicy": "Never"});
    ground.create("job", spec);
    ground.wait("its end", "job", |pod| pod["status"]["phase"] == "Succeeded");
    ground.record("job").in_order(&["runs", "app", "term"]);
}

#[test]
fn the_restart_policy_decides_and_the_back_off_grows() {
    let Some(ground) = Ground::new() else { return };
    let pod = |name: &str, policy: &str, text: &str| {
        ground.create(
            name,
            json!({"containers": [script("app", text)], "restartPolicy": policy}),
        );
    };
    pod("always", "Always", "say start");
    pod(
        "on-failure",
        "OnFailure",
        "say start; test -e /record/tried && exit 0; touch /record/tried; exit 1",
    );
    pod("never", "Never", "say start; exit 1");
    ground.wait("Failed", "never", |pod| pod["status"]["phase"] == "Failed");
    let pod = ground.wait("Succeeded", "on-failure", |pod| pod["status"]["phase"] == "Succeeded");
    assert_eq!(container(&pod, "app")["restartCount"], 1);
    assert_eq!(container(&pod, "app")["lastState"]["terminated"]["exitCode"], 1);
    let pod = ground.wait("a back-off", "always", |pod| {
        state(pod, "app").1["reason"] == "CrashLoopBackOff" && container(pod, "app")["restartCount"].as_u64() >= Some(1)
    });
    let message = state(&pod, "app").1["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("back-off ") && message.contains("restarting failed container=app"),
        "{message}"
    );
    ground.wait_event(
        "always",
        "BackOff",
        "Back-off restarting failed container app in pod always",
    );
    wait_until("the third start", || ground.record("always").count("start") >= 3);
    let times = ground.record("always").times("start");
    assert!(times[1] - times[0] < 10.0, "the first restart does not wait: {times:?}");
    assert!(
        times[2] - times[1] >= 9.9,
        "10 s, then twice as long each time: {times:?}"
    );
    assert_eq!(ground.record("never").count("start"), 1);
}

#[test]
fn what_cannot_start_says_why() {
    let Some(ground) = Ground::new() else { return };
    let app = json!({"name": "app", "command": ["/no/such/program"]});
    ground.create("missing", json!({"containers": [app, script("other", OBEDIENT)]}));
    let told = |pod: &Value| {
        state(pod, "app").1["message"]
            .as_str()
            .unwrap_or_default()
            .contains("/no/such/program")
            || container(pod, "app")["lastState"]["terminated"]["message"]
                .as_str()
                .unwrap_or_default()
                .contains("/no/such/program")
    };
    ground.wait("the reason", "missing", told);
    ground.wait_event("missing", "Failed", "/no/such/program");
    ground.wait_said("missing", "runs");
    ground.delete("missing", &[]);
    ground.wait_gone("missing");
}

#[test]
fn containers_start_in_order_and_do_not_wait_for_each_other() {
    let Some(ground) = Ground::new() else { return };
    let mut first = script("first", "say first; sleep 1000");
    first["readinessProbe"] = super::exec("false");
    let pod =
        json!({"containers": [first, script("second", "say second; sleep 1000")], "terminationGracePeriodSeconds": 1});
    ground.create("both", pod);
    ground.wait("the second one", "both", |pod| {
        container(pod, "second")["ready"] == true
    });
    ground.wait_said("both", "second").in_order(&["first", "second"]);
    let pod = ground.get("both");
    assert_eq!(container(&pod, "first")["ready"], false);
    let order: Vec<&Value> = ["PodScheduled", "PodReadyToStartContainers", "Initialized"]
        .iter()
        .filter_map(|kind| {
            let conditions = pod["status"]["conditions"].as_array()?;
            Some(
                &conditions
                    .iter()
                    .find(|c| c["type"] == *kind && c["status"] == "True")?["lastTransitionTime"],
            )
        })
        .collect();
    assert_eq!(order.len(), 3, "{pod}");
    assert!(order.is_sorted_by_key(|time| time.as_str()), "{pod}");
}

#[test]
fn an_init_container_has_tools_volumes_and_rights_of_its_own() {
    let Some(ground) = Ground::new() else { return };
    let tools = super::box_files().expect("it was there before");
    std::fs::write(tools.path().join("only-here"), "#!/bin/sh\nsay tool\n").expect("our own folder");
    super::executable(&tools.path().join("only-here"));
    super::build_image(&ground.cluster, "tools:1", tools.path());
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"word": "open"}});
    ground.cluster.apply(&secret.to_string());
    let look = |name: &str| {
        format!(
            "test -e /bin/only-here && only-here; test -e /key/word && say {name} $(cat /key/word); say {name} env $OWN; \
             while read key value; do test $key = CapEff: && say {name} $value; done < /proc/self/status; say {name} done"
        )
    };
    let mut init = script("init", &look("init"));
    init["image"] = "tools:1".into();
    init["env"] = json!([{"name": "OWN", "value": "yes"}]);
    init["securityContext"] = json!({"capabilities": {"add": ["NET_ADMIN"]}});
    let app = script("app", &format!("{}; sleep 1000", look("app")));
    let pod = json!({"initContainers": [init], "containers": [app], "terminationGracePeriodSeconds": 1});
    let mut pod = ground.pod("own", pod);
    let volume = json!({"name": "key", "secret": {"secretName": "key"}});
    let mount = json!({"name": "key", "mountPath": "/key"});
    pod["spec"]["volumes"].as_array_mut().expect("a list").push(volume);
    let mounts = &mut pod["spec"]["initContainers"][0]["volumeMounts"];
    mounts.as_array_mut().expect("a list").push(mount);
    ground.cluster.apply(&pod.to_string());
    let record = ground.wait_said("own", "app done");
    let words: Vec<&str> = record.0.iter().map(|(_, word)| word.as_str()).collect();
    let expected = [
        "tool",
        "init open",
        "init env yes",
        "init 00000000a80435fb",
        "init done",
        "app env",
        "app 00000000a80425fb",
        "app done",
    ];
    assert_eq!(words, expected);
}

#[test]
fn a_pod_requests_its_largest_init_container_or_all_that_run_together() {
    let Some(ground) = Ground::new() else { return };
    let node = ground.cluster.get(&["node", "node-1"]).expect("it is there");
    let cores = node["status"]["allocatable"]["cpu"].as_str().expect("a quantity");
    let cores: u64 = cores.parse().expect("whole cores");
    // Two of these do not fit at the same time.
    let with = |mut container: Value| {
        container["resources"] = json!({"requests": {"cpu": format!("{}m", cores * 600)}});
        container
    };
    let mut sidecar = with(script("sidecar", OBEDIENT));
    sidecar["restartPolicy"] = "Always".into();
    let (init, app) = (with(script("init", "say init")), with(script("app", OBEDIENT)));
    ground.create("together", json!({"initContainers": [sidecar], "containers": [app]}));
    ground.wait_event("together", "FailedScheduling", "Insufficient cpu");
    ground.create("in-turn", json!({"initContainers": [init], "containers": [app]}));
    ground.wait("Ready", "in-turn", ready);
    assert_eq!(ground.get("together")["status"]["phase"], "Pending");
}

#[test]
fn a_sidecar_is_started_again_whatever_the_pods_policy_is() {
    let Some(ground) = Ground::new() else { return };
    let mut sidecar = script(
        "sidecar",
        "say sidecar; until test -e /record/go; do sleep 0.1; done; exit 0",
    );
    sidecar["restartPolicy"] = "Always".into();
    let spec = json!({"initContainers": [sidecar], "containers": [script("app", OBEDIENT)], "restartPolicy": "Never"});
    ground.create("again", spec);
    ground.wait("Ready", "again", ready);
    ground.put("again", "go");
    wait_until("another start", || ground.record("again").count("sidecar") >= 2);
    assert_eq!(ground.record("again").count("runs"), 1);
}
