//! What the answers mean. Pure.

mod cluster;
mod line;
mod others;

use super::seen::Seen;
use afloat_install::{AGENT, Need, OPERATOR};
pub(super) use line::{Line, State};
use line::{few, word};

/// Everything that is to be said, in the order in which to repair it.
pub(super) fn judge(seen: &Seen) -> Vec<Line> {
    let mut lines = vec![cluster::version(seen), cluster::clock(seen)];
    lines.extend(cluster::crds(seen));
    lines.extend(operator(seen));
    lines.push(rights(seen));
    lines.extend(others::lease(seen));
    lines.extend(agents(seen));
    lines.extend(others::webhooks(seen));
    lines.extend(others::kruise(seen));
    lines
}

fn operator(seen: &Seen) -> Vec<Line> {
    const ABOUT: &str = "operator";
    let namespace = &seen.namespace;
    let deployment = match &seen.deployment {
        Ok(Some(deployment)) => deployment,
        Ok(None) => {
            let says = format!("there is no Deployment {OPERATOR} in {namespace}");
            let remedy = "afloat install | kubectl apply -f - (or say --namespace; one that runs outside of the cluster is seen by its Lease)";
            return vec![Line::warning(ABOUT, says, remedy)];
        }
        Err(why) => return vec![Line::unknown(ABOUT, why)],
    };
    let image = word(deployment, "/spec/template/spec/containers/0/image");
    let wanted = deployment["spec"]["replicas"].as_i64().unwrap_or(1);
    let ready = deployment["status"]["readyReplicas"].as_i64().unwrap_or(0);
    let updated = deployment["status"]["updatedReplicas"].as_i64().unwrap_or(0);
    let says = format!("{ready} of {wanted} replicas ready in {namespace}, image {image}");
    let mut lines = vec![if ready == 0 {
        let remedy = format!(
            "{}kubectl -n {namespace} describe pods -l app={OPERATOR}",
            reasons(seen, OPERATOR)
        );
        Line::failure(ABOUT, says, remedy)
    } else if ready < wanted || updated < wanted {
        let remedy = format!(
            "{}kubectl -n {namespace} rollout status deployment/{OPERATOR}",
            reasons(seen, OPERATOR)
        );
        Line::warning(ABOUT, says, remedy)
    } else {
        Line::ok(ABOUT, says)
    }];
    let (installed, ours) = (
        word(deployment, "/metadata/labels/app.kubernetes.io~1version"),
        env!("CARGO_PKG_VERSION"),
    );
    if !installed.is_empty() && installed != ours {
        let says = format!("version {installed} is installed, this is {ours}");
        lines.push(Line::warning(
            ABOUT,
            says,
            "apply what the newer of the two prints with `afloat install`",
        ));
    }
    lines
}

/// Why pods of an app wait, for people; empty if none says.
fn reasons(seen: &Seen, app: &str) -> String {
    let pods = seen
        .pods
        .iter()
        .flatten()
        .filter(|pod| word(pod, "/metadata/labels/app") == app);
    let mut reasons: Vec<String> = pods
        .flat_map(|pod| pod["status"]["containerStatuses"].as_array().into_iter().flatten())
        .filter_map(|status| {
            let waiting = status.pointer("/state/waiting")?;
            let text = format!("{} {}", word(waiting, "/reason"), word(waiting, "/message"));
            Some(text.trim().to_owned())
        })
        .collect();
    reasons.sort();
    reasons.dedup();
    if reasons.is_empty() {
        String::new()
    } else {
        format!("a pod waits: {}; ", reasons.join(", "))
    }
}

fn rights(seen: &Seen) -> Line {
    const ABOUT: &str = "rights";
    let denied = match &seen.denied {
        Ok(Some(denied)) => denied,
        Ok(None) => {
            return Line::ok(
                ABOUT,
                "this API server lets everybody do everything that is authenticated",
            );
        }
        Err(why) => return Line::unknown(ABOUT, why),
    };
    if denied.is_empty() {
        return Line::ok(
            ABOUT,
            format!("the accounts may do all {} things that they need", seen.needed),
        );
    }
    let told: Vec<_> = denied.iter().take(5).map(right).collect();
    let more = match denied.len() - told.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let says = format!("not allowed: {}{more}", told.join("; "));
    Line::failure(
        ABOUT,
        says,
        format!(
            "apply `afloat install --namespace {}` of this version again",
            seen.namespace
        ),
    )
}

fn right(need: &Need) -> String {
    let group = if need.group.is_empty() {
        String::new()
    } else {
        format!(".{}", need.group)
    };
    let place = need
        .namespace
        .as_deref()
        .map(|namespace| format!(" in {namespace}"))
        .unwrap_or_default();
    format!("{} to {} {}{group}{place}", need.account, need.verb, need.resource)
}

fn agents(seen: &Seen) -> Vec<Line> {
    const ABOUT: &str = "agents";
    let (nodes, reports) = match (&seen.nodes, &seen.reports) {
        (Ok(nodes), Ok(reports)) => (nodes, reports),
        (Err(why), _) | (_, Err(why)) => return vec![Line::unknown(ABOUT, why)],
    };
    let installed = !matches!(seen.daemon_set, Ok(None));
    if !installed && reports.is_empty() {
        let says = "there are no agents: drains are timed, not observed";
        return vec![Line::warning(
            ABOUT,
            says,
            "afloat install without --no-agent, where kube-proxy is the nodes' proxy",
        )];
    }
    let mut lines = Vec::new();
    let (mut silent, mut blind, mut seeing) = (Vec::new(), Vec::new(), 0);
    for node in nodes {
        let name = word(node, "/metadata/name");
        match reports.iter().find(|report| word(report, "/metadata/name") == name) {
            None => silent.push(name),
            Some(report) if report["status"]["synced"] == true => {
                seeing += 1;
                let message = word(report, "/status/message");
                if !message.is_empty() {
                    let says = format!("{name} ({}): {message}", word(report, "/status/method"));
                    lines.push(Line::warning(ABOUT, says, "docs/agent.md says what it needs for that"));
                }
            }
            Some(report) => blind.push((name, word(report, "/status/message"))),
        }
    }
    let says = format!(
        "{seeing} of {} nodes report what their proxies have let go of",
        nodes.len()
    );
    lines.insert(0, Line::ok(ABOUT, says));
    if !silent.is_empty() {
        let says = format!("no report of {}", few(&silent));
        let remedy = format!(
            "{}kubectl -n {} get pods -l app={AGENT} -o wide",
            reasons(seen, AGENT),
            seen.namespace
        );
        lines.push(Line::warning(ABOUT, says, remedy));
    }
    for (name, why) in blind.iter().take(5) {
        let says = format!("{name} cannot see its proxy: {why}");
        lines.push(Line::warning(
            ABOUT,
            says,
            "docs/agent.md says what it needs; drains there are waited for until their limit",
        ));
    }
    lines
}

#[cfg(test)]
mod tests;
