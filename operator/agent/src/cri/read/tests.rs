use std::collections::HashMap;

use super::*;

fn map(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

/// As a kubelet 1.32 makes it and containerd 1.7 gives it back.
fn listed() -> proto::Container {
    proto::Container {
        id: "c1".into(),
        metadata: Some(proto::ContainerMetadata {
            name: "app".into(),
            attempt: 2,
        }),
        image: Some(proto::ImageSpec {
            image: "sha256:1234".into(),
            user_specified_image: "web:v2".into(),
        }),
        image_ref: "sha256:1234".into(),
        state: 1,
        created_at: 1_700_000_000_000_000_000,
        labels: map(&[
            (POD_UID, "u1"),
            (POD_NAME, "web-0"),
            (POD_NAMESPACE, "shop"),
            (CONTAINER_NAME, "app"),
        ]),
        annotations: map(&[
            (HASH, "3c7d3f1a"),
            (RESTART_COUNT, "2"),
            (GRACE, "45"),
            (PRE_STOP, r#"{"exec":{"command":["/bye"]}}"#),
            (PORTS, r#"[{"name":"http","containerPort":80,"protocol":"TCP"}]"#),
        ]),
    }
}

#[test]
fn a_kubelets_container_is_read() {
    let mut read = container("containerd", listed()).unwrap();
    assert_eq!(read.id, "containerd://c1");
    assert_eq!(
        (&*read.pod_namespace, &*read.pod_name, &*read.name),
        ("shop", "web-0", "app")
    );
    assert_eq!((read.restart_count, read.hash), (2, Some(0x3c7d_3f1a)));
    assert_eq!(read.reference.as_deref(), Some("web:v2"));
    assert_eq!(read.grace_seconds, Some(45));
    let command = read
        .pre_stop
        .as_ref()
        .and_then(|hook| hook.exec.as_ref()?.command.clone());
    assert_eq!(command.unwrap(), ["/bye"]);
    assert_eq!(read.ports[0].container_port, 80);
    assert_eq!((read.state, read.started_at), (ContainerState::Running, None));
    let ended = proto::ContainerStatus {
        state: 2,
        started_at: 1_700_000_001_000_000_000,
        exit_code: 143,
    };
    complete(&mut read, &ended);
    assert_eq!(read.state, ContainerState::Exited { code: Some(143) });
    assert_eq!(read.started_at.map(|time| time.as_second()), Some(1_700_000_001));
}

#[test]
fn what_is_missing_or_broken_is_left_out() {
    let mut old = listed();
    old.annotations = map(&[(HASH, "no hash"), (PRE_STOP, "{"), (PORTS, "7"), (GRACE, "")]);
    old.image = Some(proto::ImageSpec::default());
    let read = container("cri-o", old).unwrap();
    assert_eq!(
        (read.hash, read.reference, read.pre_stop, read.grace_seconds),
        (None, None, None, None)
    );
    assert_eq!(read.restart_count, 2, "the attempt");
    let mut foreign = listed();
    foreign.labels.remove(POD_UID);
    assert_eq!(container("containerd", foreign), None);
    let mut strange = listed();
    strange.state = 9;
    assert_eq!(container("containerd", strange).unwrap().state, ContainerState::Unknown);
}

#[test]
fn variables_are_those_of_the_configuration() {
    let info = map(&[(
        "info",
        r#"{"sandboxID":"s","pid":77,"config":{"envs":[{"key":"A","value":"1"}]},
            "runtimeSpec":{"process":{"env":["PATH=/bin","A=1","A=2","B=x=y","C"]}}}"#,
    )]);
    let info = Info::of(&info).unwrap();
    assert_eq!(info.pid, 77);
    let told: Vec<_> = info
        .environment()
        .unwrap()
        .into_iter()
        .map(|(name, value)| format!("{name}:{value}"))
        .collect();
    assert_eq!(told, ["A:1", "B:x=y", "PATH:/bin"]);
    assert!(
        Info::of(&map(&[("info", r#"{"pid":77}"#)]))
            .unwrap()
            .environment()
            .is_none(),
        "not told"
    );
    assert!(Info::of(&map(&[("info", "{")])).is_none());
    assert!(Info::of(&HashMap::new()).is_none());
}

#[test]
fn refusals_of_a_pull_are_told_apart() {
    let unknown = |text: &str| Status::unknown(text);
    for (status, expected) in [
        (
            Status::not_found("failed to pull and unpack image: x: not found"),
            "refused",
        ),
        (
            unknown("failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized"),
            "refused",
        ),
        (
            unknown("pull access denied, repository does not exist or may require authorization"),
            "refused",
        ),
        (
            unknown("dial tcp 127.0.0.1:5000: connect: connection refused"),
            "unavailable",
        ),
        (
            unknown("dial tcp: lookup registry.example: no such host"),
            "unavailable",
        ),
        (
            unknown("failed to copy: httpReadSeeker: failed open: unexpected status code: 500 Internal Server Error"),
            "unavailable",
        ),
        (unknown("unexpected EOF"), "unavailable"),
        (Status::unavailable("the runtime is gone"), "unavailable"),
        (
            unknown("failed to extract layer: write /x: no space left on device"),
            "disk",
        ),
        (
            Status::invalid_argument("failed to parse image reference \"A\": invalid reference format"),
            "name",
        ),
        (unknown("something else"), "refused"),
    ] {
        let told = match pull_error("web:v1", &status) {
            PullError::InvalidName(_) => "name",
            PullError::Unavailable(_) => "unavailable",
            PullError::Refused(_) => "refused",
            PullError::DiskFull(_) => "disk",
            PullError::Local(_) => "local",
        };
        assert_eq!(told, expected, "{}", status.message());
    }
}
