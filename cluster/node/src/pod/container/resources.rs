//! What a container may use, from its requests and limits, as the kubelet turns them into the kernel's numbers. Pure.

use afloat_runtime::{CPU_PERIOD_US, Resources};
use afloat_words::quantity;
use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A CPU in the kernel's weights, and the least there is.
const SHARES_PER_CPU: u64 = 1024;
const SHARES_MIN: u64 = 2;
/// The kernel refuses less than a millisecond.
const QUOTA_MIN_US: u64 = 1000;

/// Limits and weight. A request that is missing is its limit (the API server's default, repeated for static pods).
/// A container without any stays without a weight, too: it then has the node's share.
pub(crate) fn limits(container: &Container) -> Resources {
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|r| r.limits.as_ref());
    let requests = resources.and_then(|r| r.requests.as_ref());
    let limit = |name: &str| limits.and_then(|map| map.get(name));
    let cpu_limit = limit("cpu").and_then(milli);
    let cpu_request = requests.and_then(|map| map.get("cpu")).and_then(milli).or(cpu_limit);
    Resources {
        memory_limit_bytes: limit("memory").and_then(bytes).filter(|bytes| *bytes > 0),
        cpu_shares: cpu_request.map(|milli| (milli.saturating_mul(SHARES_PER_CPU) / 1000).max(SHARES_MIN)),
        cpu_quota_us: cpu_limit
            .filter(|milli| *milli > 0)
            .map(|milli| (milli.saturating_mul(CPU_PERIOD_US) / 1000).max(QUOTA_MIN_US)),
        pids_limit: None,
    }
}

/// CPU in thousandths and memory in bytes that are taken from the node; a request that is missing is its limit.
pub(crate) fn requests(of: &ResourceRequirements) -> (u64, u64) {
    let request = |name: &str| {
        [&of.requests, &of.limits]
            .into_iter()
            .find_map(|map| map.as_ref()?.get(name))
    };
    (
        request("cpu").and_then(milli).unwrap_or(0),
        request("memory").and_then(bytes).unwrap_or(0),
    )
}

/// Thousandths, rounded up as quantities are.
pub(crate) fn milli(quantity: &Quantity) -> Option<u64> {
    sound(quantity.0.parse().map(quantity::Quantity::milli).ok()?)
}

/// Whole units, rounded up.
pub(crate) fn bytes(quantity: &Quantity) -> Option<u64> {
    sound(quantity.0.parse().map(quantity::Quantity::value).ok()?)
}

/// More than 2^53, or less than nothing, no machine has.
fn sound(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number <= 1 << 53)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> Resources {
        let list = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string()));
            pairs.collect::<std::collections::BTreeMap<_, _>>()
        };
        let text =
            serde_json::json!({ "name": "c", "resources": { "requests": list(requests), "limits": list(limits) } });
        super::limits(&serde_json::from_value(text).unwrap())
    }

    #[test]
    fn nothing_asked_for_is_nothing_set() {
        assert_eq!(of(&[], &[]), Resources::default());
        assert_eq!(of(&[("memory", "1Gi")], &[]), Resources::default());
    }

    #[test]
    fn requests_weigh_and_limits_limit() {
        let expected = Resources {
            memory_limit_bytes: Some(67_108_864),
            cpu_shares: Some(256),
            cpu_quota_us: Some(50_000),
            pids_limit: None,
        };
        assert_eq!(of(&[("cpu", "250m")], &[("cpu", "500m"), ("memory", "64Mi")]), expected);
    }

    #[test]
    fn a_missing_request_is_the_limit_and_small_numbers_are_raised() {
        let two = of(&[], &[("cpu", "2")]);
        assert_eq!((two.cpu_shares, two.cpu_quota_us), (Some(2048), Some(200_000)));
        let tiny = of(&[("cpu", "1m")], &[("cpu", "1m")]);
        assert_eq!((tiny.cpu_shares, tiny.cpu_quota_us), (Some(2), Some(1000)));
        assert_eq!(of(&[("cpu", "0")], &[]).cpu_shares, Some(2));
        assert_eq!(of(&[], &[("memory", "many")]).memory_limit_bytes, None);
        assert_eq!(of(&[], &[("memory", "-1")]).memory_limit_bytes, None);
        assert_eq!(of(&[], &[("memory", "8Ei")]).memory_limit_bytes, None);
    }

    /// In floating point both were one more.
    #[test]
    fn thousandths_are_exact() {
        for (text, exact) in [("9m", 9), ("2010m", 2010), ("2.01", 2010), ("1.0001", 1001)] {
            assert_eq!(milli(&Quantity(text.to_owned())), Some(exact), "{text}");
        }
    }
}
