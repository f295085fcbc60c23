use super::*;
use crate::network::view::{PortView, Target};

fn key(name: &str) -> Key {
    ("default".into(), name.into())
}

fn service() -> ServiceView {
    let target = Target::Number(80);
    ServiceView {
        namespace: "default".into(),
        name: "web".into(),
        uid: "u".into(),
        selector: BTreeMap::from([("app".into(), "web".into())]),
        ports: vec![PortView {
            protocol: "TCP".into(),
            target,
            ..PortView::default()
        }],
        ..ServiceView::default()
    }
}

fn pod(index: u8, app: &str) -> Pod {
    Pod {
        namespace: "default".into(),
        name: format!("p{index}"),
        uid: format!("uid-{index}"),
        labels: BTreeMap::from([("app".into(), app.into())]),
        ip: Some(format!("10.244.0.{index}")),
        ready: true,
        ..Pod::default()
    }
}

/// What the API server makes of a slice that is written.
fn stored(action: &Action, version: u64) -> EndpointSlice {
    let (Action::Create(slice) | Action::Update(slice) | Action::Delete(slice)) = action;
    let mut slice = slice.clone();
    slice.metadata.name = Some("web-1".into());
    slice.metadata.uid = Some("slice".into());
    slice.metadata.resource_version = Some(version.to_string());
    slice
}

fn echo(version: u64) -> Vec<Written> {
    vec![Written::Stored {
        name: "web-1".into(),
        version: version.to_string(),
    }]
}

/// The writes due within the window after `now`.
fn due(state: &mut State, now: Instant) -> Vec<Action> {
    let mut all = Vec::new();
    while let Some((_, actions)) = state.take(now + WINDOW) {
        all.extend(actions);
    }
    all
}

fn endpoints(actions: &[Action]) -> Vec<usize> {
    let count = |action: &Action| match action {
        Action::Create(slice) | Action::Update(slice) | Action::Delete(slice) => slice.endpoints.len(),
    };
    actions.iter().map(count).collect()
}

#[tokio::test]
async fn a_burst_is_one_write_and_is_not_put_off_by_more_of_it() {
    let start = Instant::now();
    let mut state = State::default();
    state.service(key("web"), Some(service()), start);
    for i in 1..=4 {
        state.pod(
            key(&format!("p{i}")),
            Some(pod(i, "web")),
            start + Duration::from_millis(u64::from(i)),
        );
    }
    assert_eq!(state.next_due(), Some(start + WINDOW));
    assert!(state.take(start).is_none(), "not yet");
    assert_eq!(endpoints(&due(&mut state, start)), [4]);
}

#[tokio::test]
async fn nothing_is_decided_before_the_watch_shows_the_own_write() {
    let start = Instant::now();
    let mut state = State::default();
    state.service(key("web"), Some(service()), start);
    state.pod(key("p1"), Some(pod(1, "web")), start);
    let first = due(&mut state, start);
    state.pod(key("p2"), Some(pod(2, "web")), start);
    assert!(due(&mut state, start).is_empty(), "a write is under way");
    state.done(key("web"), echo(7), false, start);
    assert!(due(&mut state, start).is_empty(), "not seen yet");
    state.slice(key("web-1"), Some(stored(&first[0], 7)), start);
    let second = due(&mut state, start);
    assert_eq!(endpoints(&second), [2]);
    assert!(matches!(&second[0], Action::Update(slice) if slice.metadata.resource_version.as_deref() == Some("7")));
    // The echo may also come before the answer.
    state.slice(key("web-1"), Some(stored(&second[0], 8)), start);
    state.done(key("web"), echo(8), false, start);
    state.pod(key("p1"), None, start);
    assert_eq!(endpoints(&due(&mut state, start)), [1]);
}

#[tokio::test]
async fn an_echo_that_never_comes_ends_by_the_time_limit_or_the_deletion() {
    let start = Instant::now();
    let mut state = State::default();
    state.service(key("web"), Some(service()), start);
    let first = due(&mut state, start);
    assert_eq!(endpoints(&first), [0]);
    state.done(key("web"), echo(7), false, start);
    state.pod(key("p1"), Some(pod(1, "web")), start);
    assert!(due(&mut state, start).is_empty());
    assert_eq!(
        endpoints(&due(&mut state, start + ECHO_TIMEOUT)),
        [1],
        "by the time limit"
    );

    let mut state = State::default();
    state.service(key("web"), Some(service()), start);
    let first = due(&mut state, start);
    state.slice(key("web-1"), Some(stored(&first[0], 6)), start);
    state.done(key("web"), echo(7), false, start);
    assert!(due(&mut state, start).is_empty());
    state.slice(key("web-1"), None, start);
    assert_eq!(
        endpoints(&due(&mut state, start)),
        [0],
        "somebody deleted it: made anew at once"
    );
}

#[tokio::test]
async fn failures_back_off_whatever_happens_meanwhile() {
    let mut now = Instant::now();
    let mut state = State::default();
    state.service(key("web"), Some(service()), now);
    let mut pauses = Vec::new();
    for i in 0..10u8 {
        assert!(!due(&mut state, now).is_empty());
        state.done(key("web"), Vec::new(), true, now);
        state.pod(key("p1"), Some(pod(i + 1, "web")), now);
        let next = state.next_due().unwrap();
        pauses.push(next.duration_since(now).as_millis());
        now = next;
    }
    assert_eq!(pauses, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
}

#[tokio::test]
async fn only_services_that_select_a_pod_before_or_after_are_looked_at() {
    let start = Instant::now();
    let mut state = State::default();
    let other = ServiceView {
        name: "other".into(),
        selector: [("app".into(), "other".into())].into(),
        ..service()
    };
    state.service(key("other"), Some(other), start);
    state.service(key("web"), Some(service()), start);
    due(&mut state, start);
    for name in ["web", "other"] {
        state.done(key(name), Vec::new(), false, start);
    }
    while state.take(start + ECHO_TIMEOUT).is_some() {}
    for name in ["web", "other"] {
        state.done(key(name), Vec::new(), false, start);
    }
    state.due.clear();
    state.progress.clear();
    let marked = |state: &mut State| -> Vec<String> {
        let names = std::mem::take(&mut state.due)
            .into_iter()
            .map(|(_, key)| key.1)
            .collect();
        state.progress.clear();
        names
    };
    state.pod(key("p1"), Some(pod(1, "web")), start);
    assert_eq!(marked(&mut state), ["web"]);
    state.pod(key("p1"), Some(pod(1, "web")), start);
    assert_eq!(marked(&mut state), Vec::<String>::new(), "nothing of interest changed");
    state.pod(key("p1"), Some(pod(1, "other")), start);
    assert_eq!(marked(&mut state), ["other", "web"]);
    state.pod(key("p1"), None, start);
    assert_eq!(marked(&mut state), ["other"], "gone");
    state.pod(key("p1"), Some(pod(1, "none")), start);
    assert_eq!(marked(&mut state), Vec::<String>::new());
}

/// The watch shows a slice to be gone before the answer to a write to it has arrived.
#[tokio::test]
async fn a_slice_that_goes_while_it_is_written_is_not_waited_for() {
    let start = Instant::now();
    let mut state = State::default();
    state.service(key("web"), Some(service()), start);
    state.pod(key("p1"), Some(pod(1, "web")), start);
    let first = due(&mut state, start).remove(0);
    state.slice(key("web-1"), Some(stored(&first, 1)), start);
    state.done(key("web"), echo(1), false, start);
    assert_eq!(due(&mut state, start), []);
    state.pod(key("p2"), Some(pod(2, "web")), start);
    assert_eq!(endpoints(&due(&mut state, start)), [2]);
    state.slice(key("web-1"), None, start);
    state.done(key("web"), echo(2), false, start);
    assert_eq!(endpoints(&due(&mut state, start)), [2], "a new one, at once");
}
