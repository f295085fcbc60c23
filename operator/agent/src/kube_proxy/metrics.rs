//! What kube-proxy says of its own work, at `/metrics`.

/// Whether everything that kube-proxy has seen is in its rules: no change waits, and none was queued after the last time
/// that rules were written. None where it does not say. See kubernetes pkg/proxy/metrics/metrics.go; a failed sync does not
/// count as one there.
pub fn idle(text: &str) -> Option<bool> {
    let values = |name: &str| {
        let name = name.to_owned();
        text.lines().filter_map(move |line| value(line, &name))
    };
    let least = |name: &str| values(name).reduce(f64::min);
    let most = |name: &str| values(name).reduce(f64::max);
    // Newer versions have one series per family of addresses.
    let queued = most("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds")?;
    let synced = least("kubeproxy_sync_proxy_rules_last_timestamp_seconds")?;
    let endpoints = most("kubeproxy_sync_proxy_rules_endpoint_changes_pending")?;
    let services = most("kubeproxy_sync_proxy_rules_service_changes_pending")?;
    Some(synced > 0.0 && synced >= queued && endpoints == 0.0 && services == 0.0)
}

/// The value of a line `name value` or `name{labels} value`.
fn value(line: &str, name: &str) -> Option<f64> {
    let rest = line.strip_prefix(name)?;
    let rest = match rest.strip_prefix('{') {
        Some(labels) => labels.rsplit_once('}')?.1,
        None => rest.strip_prefix(' ')?,
    };
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(queued: &str, synced: &str, endpoints: u8) -> String {
        format!(
            "# HELP kubeproxy_sync_proxy_rules_endpoint_changes_pending [ALPHA] Pending proxy rules Endpoint changes\n\
             # TYPE kubeproxy_sync_proxy_rules_endpoint_changes_pending gauge\n\
             kubeproxy_sync_proxy_rules_endpoint_changes_pending {endpoints}\n\
             kubeproxy_sync_proxy_rules_endpoint_changes_total 57\n\
             kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds {queued}\n\
             kubeproxy_sync_proxy_rules_last_timestamp_seconds {synced}\n\
             kubeproxy_sync_proxy_rules_service_changes_pending 0\n"
        )
    }

    #[test]
    fn idle_is_nothing_queued_and_nothing_pending() {
        assert_eq!(idle(&text("1.764153e+09", "1.764153001e+09", 0)), Some(true));
        assert_eq!(
            idle(&text("1.764153002e+09", "1.764153001e+09", 0)),
            Some(false),
            "a sync is under way"
        );
        assert_eq!(
            idle(&text("1.764153e+09", "1.764153001e+09", 2)),
            Some(false),
            "changes wait"
        );
        assert_eq!(idle(&text("0", "0", 0)), Some(false), "it has only begun");
        assert_eq!(idle("process_cpu_seconds_total 3\n"), None);
    }

    #[test]
    fn the_slowest_family_counts() {
        let text = text("1.764153e+09", "1.764153001e+09", 0);
        let labelled = text.replace(
            "_last_timestamp_seconds ",
            "_last_timestamp_seconds{ip_family=\"IPv4\"} ",
        );
        assert_eq!(idle(&labelled), Some(true));
        let more = "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv6\"} 1.764152e+09\n";
        assert_eq!(idle(&(labelled + more)), Some(false));
    }
}
