//! What brings Afloat into a cluster and away: `afloat install` and `afloat uninstall` print what a cluster needs, for `kubectl apply
//! -f -` and `kubectl delete -f -`; `crds` is a part of it, `takeover` does it where OpenKruise runs, `status` looks at what became of it.

mod crds;
mod status;
mod takeover;

use afloat_install::{NAMESPACE, Options, objects, removable, yaml};
use clap::Args;

use crate::options::serving::Served;
use crate::output;

pub(crate) use crds::{CrdsOptions, print_crds};
pub(crate) use status::{StatusOptions, run_status};
pub(crate) use takeover::{TakeoverOptions, flag, run_takeover};

/// `afloat install`
#[derive(Args, Clone, Debug)]
pub(crate) struct InstallOptions {
    #[command(flatten)]
    chosen: Chosen,
    /// Image with afloat, and with the tools of nodes for the agents (`afloat image build --self` makes one)
    #[arg(long, value_name = "NAME", default_value = concat!("afloat:", env!("CARGO_PKG_VERSION")), value_parser = parse_image)]
    image: String,
    /// Another image for the agents
    #[arg(long, value_name = "NAME", value_parser = parse_image, conflicts_with = "no_agent")]
    agent_image: Option<String>,
    /// A Secret to pull them with (may be given several times)
    #[arg(long = "pull-secret", value_name = "NAME", value_parser = parse_name)]
    pull_secrets: Vec<String>,
    /// Operators, of which one acts [default: 2; with --ha 3]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=9))]
    replicas: Option<u32>,
    /// Never two operators on one node, rather leave one waiting
    #[arg(long)]
    ha: bool,
    /// Without the CustomResourceDefinitions: `afloat crds` prints them, `afloat takeover` sees to those that OpenKruise has made
    #[arg(long)]
    no_crds: bool,
    /// OpenKruise's feature gates, as its manager's flag takes them
    #[arg(long, value_name = "NAME=BOOL,…", default_value = "", hide_default_value = true, value_parser = parse_gates)]
    feature_gates: String,
    /// Name of the Lease of the operator that acts; the default is OpenKruise's own, so that only one of the two acts
    #[arg(long, value_name = "NAME", default_value = afloat_api::names::MANAGER_LEASE, value_parser = parse_name)]
    lease_name: String,
}

/// `afloat uninstall`
#[derive(Args, Clone, Debug)]
pub(crate) struct UninstallOptions {
    #[command(flatten)]
    chosen: Chosen,
}

/// What decides which objects there are.
#[derive(Args, Clone, Debug)]
struct Chosen {
    /// Where the operator and the agents run
    #[arg(short, long, default_value = NAMESPACE, value_parser = parse_namespace)]
    namespace: String,
    /// No agents on the nodes: drains are timed, not observed
    #[arg(long)]
    no_agent: bool,
    /// Versions of CloneSet that are served: both, between which the operator's webhook converts, or v1beta1 alone, without a webhook
    #[arg(long, value_enum, default_value_t = Served::Both)]
    serve: Served,
    /// No NetworkPolicy
    #[arg(long)]
    no_network_policy: bool,
    /// A ServiceMonitor for Prometheus' operator
    #[arg(long)]
    service_monitor: bool,
    /// Namespace of the Lease of the operator that acts
    #[arg(long, value_name = "NAMESPACE", default_value = afloat_api::names::MANAGER_NAMESPACE, value_parser = parse_namespace)]
    lease_namespace: String,
}

impl Chosen {
    fn options(self) -> Options {
        Options {
            namespace: self.namespace,
            agent: !self.no_agent,
            v1alpha1: self.serve == Served::Both,
            network_policy: !self.no_network_policy,
            service_monitor: self.service_monitor,
            lease_namespace: self.lease_namespace,
            ..Options::default()
        }
    }
}

pub(crate) fn print_install(options: InstallOptions) -> anyhow::Result<i32> {
    let rendered = objects(&Options {
        image: options.image,
        agent_image: options.agent_image,
        pull_secrets: options.pull_secrets,
        replicas: options.replicas.unwrap_or(if options.ha { 3 } else { 2 }),
        spread: options.ha,
        crds: !options.no_crds,
        lease_name: options.lease_name,
        feature_gates: options.feature_gates,
        ..options.chosen.options()
    });
    output::print(&yaml(&rendered))?;
    Ok(0)
}

pub(crate) fn print_uninstall(options: UninstallOptions) -> anyhow::Result<i32> {
    output::print(&yaml(&removable(&options.chosen.options())))?;
    Ok(0)
}

/// The name of an image, as a manifest takes it.
pub(crate) fn parse_image(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|letter: char| letter.is_whitespace() || letter.is_control() || letter == '#') {
        return Err("an image's name has no spaces".to_owned());
    }
    Ok(text.to_owned())
}

/// The name of a namespace: a label of RFC 1123.
fn parse_namespace(text: &str) -> Result<String, String> {
    if text.contains('.') || text.len() > 63 {
        return Err("a namespace's name has at most 63 lower case letters, digits and -".to_owned());
    }
    parse_name(text)
}

/// The name of an object: a subdomain of RFC 1123.
fn parse_name(text: &str) -> Result<String, String> {
    let outer = |letter: Option<char>| matches!(letter, Some('a'..='z' | '0'..='9'));
    let letters = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '-' | '.');
    let ends = outer(text.chars().next()) && outer(text.chars().next_back());
    if !ends || text.len() > 253 || !text.chars().all(letters) {
        return Err(
            "a name has lower case letters, digits, - and ., and begins and ends with a letter or digit".to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// OpenKruise's gates, of which those that change nothing here are left to the operator to warn of.
fn parse_gates(text: &str) -> Result<String, String> {
    let parsed = afloat_api::Gates::parse(text).map_err(|error| error.to_string());
    parsed.map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_input() {
        for bad in ["", "Upper", "-a", "a-", "a b", "a.b", &"a".repeat(64)] {
            assert!(parse_namespace(bad).is_err(), "{bad}");
        }
        for bad in ["", "a/b", ".a", "a\n"] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
        assert!(parse_name("a.b-1").is_ok());
        for bad in ["", "a b", "a#b", "a\n"] {
            assert!(parse_image(bad).is_err(), "{bad}");
        }
        for bad in ["A=true", "CloneSetShortHash", "CloneSetShortHash=maybe"] {
            assert!(parse_gates(bad).is_err(), "{bad}");
        }
        assert!(parse_gates("CloneSetShortHash=true,PreparingUpdateAsUpdate=false").is_ok());
    }
}
