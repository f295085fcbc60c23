use k8s_openapi::api::core::v1::Service;
use serde_json::json;

use super::*;

/// What is said of an event, in a word.
fn sift(left_out: &mut LeftOut, event: Event<Item<Service>>) -> &'static str {
    match left_out.sift("/services", event) {
        Step::Say(Event::Init | Event::InitDone) => "said",
        Step::Say(Event::InitApply(_) | Event::Apply(_)) => "there",
        Step::Say(Event::Delete(_)) => "gone",
        Step::Skip => "skipped",
        Step::Anew => "anew",
    }
}

fn item(name: &str, ports: serde_json::Value) -> Item<Service> {
    let object = json!({"metadata": {"name": name, "resourceVersion": "1"}, "spec": {"ports": ports}});
    serde_json::from_value(object).unwrap()
}

#[test]
fn what_cannot_be_read_is_as_if_it_were_not_there() {
    let (good, bad) = (|name| item(name, json!([])), |name| item(name, json!("x")));
    let steps = [
        (Event::Init, "said"),
        (Event::InitApply(good("a")), "there"),
        (Event::InitApply(bad("b")), "skipped"),
        (Event::InitDone, "said"),
        // It goes on being left out, until it can be read.
        (Event::Apply(bad("b")), "skipped"),
        (Event::Apply(good("b")), "there"),
        // One that was there must be seen to go, which only a listing without it says.
        (Event::Apply(bad("b")), "anew"),
        (Event::Init, "said"),
        (Event::InitApply(good("a")), "there"),
        (Event::InitApply(bad("b")), "skipped"),
        (Event::InitDone, "said"),
        // One that was never there goes unseen, one that was does not.
        (Event::Delete(bad("b")), "skipped"),
        (Event::Delete(bad("a")), "anew"),
        (Event::Delete(good("a")), "gone"),
    ];
    let mut left_out = LeftOut::default();
    for (n, (event, expected)) in steps.into_iter().enumerate() {
        assert_eq!(sift(&mut left_out, event), expected, "step {n}");
    }
    assert!(left_out.known.is_empty(), "{:?}", left_out.known);
}
