//! How the time of work grows with what a client sends: ratios within one run.

use std::time::Duration;

use afloat_machinery::kinds::Registry;
use afloat_machinery::patch::{PatchType, apply};
use serde_json::{Value, json};

/// A pod spec with the parts given.
fn pod(spec: &Value) -> Value {
    json!({"spec": spec})
}

/// Processor time of this thread: what others do meanwhile does not count.
fn spent() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
}

/// How much more `work` takes with an input of `8 * n` than with one of `n`; the least of some runs each.
fn growth<T>(n: usize, make: impl Fn(usize) -> T, work: impl Fn(&T)) -> f64 {
    let least = |size: usize| {
        let input = make(size);
        let run = || {
            let before = spent();
            work(&input);
            spent() - before
        };
        (0..5).map(|_| run()).min().unwrap_or_default()
    };
    least(8 * n).as_secs_f64() / least(n).as_secs_f64()
}

#[test]
fn a_list_eight_times_as_long_takes_eight_times_as_long() {
    let texts = |n: usize, word: &str| (0..n).map(|i| json!(format!("{word}/{i}"))).collect::<Vec<_>>();
    let named = |n: usize, word: &str| {
        let one = |i| json!({"name": format!("{word}{i}"), "image": "i"});
        (0..n).map(one).collect::<Vec<_>>()
    };
    let gone = |n: usize| {
        let one = |i| json!({"name": format!("a{i}"), "$patch": "delete"});
        (0..n).map(one).collect::<Vec<_>>()
    };
    type Make<'a> = Box<dyn Fn(usize) -> (Value, Value) + 'a>;
    let cases: Vec<(&str, Make<'_>)> = vec![
        (
            "a set grows",
            Box::new(|n| {
                let of = |list| json!({"metadata": {"finalizers": list}});
                (of(texts(n, "a")), of(texts(n, "b")))
            }),
        ),
        (
            "a set shrinks",
            Box::new(|n| {
                let list = texts(n, "a");
                let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": list}});
                (json!({"metadata": {"finalizers": list}}), patch)
            }),
        ),
        (
            "a set is put in order",
            Box::new(|n| {
                let mut order = texts(n, "a");
                order.reverse();
                let patch = json!({"metadata": {"$setElementOrder/finalizers": order}});
                (json!({"metadata": {"finalizers": texts(n, "a")}}), patch)
            }),
        ),
        (
            "a list merged by key grows",
            Box::new(|n| {
                (
                    pod(&json!({"containers": named(n, "a")})),
                    pod(&json!({"containers": named(n, "b")})),
                )
            }),
        ),
        (
            "all elements of a list merged by key go",
            Box::new(|n| {
                (
                    pod(&json!({"containers": named(n, "a")})),
                    pod(&json!({"containers": gone(n)})),
                )
            }),
        ),
        (
            "fields are retained",
            Box::new(|n| {
                let fields: serde_json::Map<String, Value> = (0..n).map(|i| (format!("f{i}"), json!(1))).collect();
                let keys: Vec<String> = fields.keys().cloned().collect();
                let object = json!({"metadata": {"annotations": fields}});
                let patch = json!({"metadata": {"annotations": {"$retainKeys": keys}}});
                (object, patch)
            }),
        ),
    ];
    let pods = Registry::builtin().by_kind("v1", "Pod").unwrap();
    for (what, make) in cases {
        let grew = growth(500, make, |(current, patch)| {
            apply(PatchType::Strategic, &pods, current, patch).unwrap();
        });
        // With a walk within a walk it is 64.
        assert!(grew < 32.0, "{what}: {grew}");
    }
}
