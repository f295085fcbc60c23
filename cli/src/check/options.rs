//! What `afloat check` is told.

use std::path::PathBuf;

use afloat_machinery::selector::LabelSelector;
use clap::Args;

use crate::options::cluster::ClusterFlags;

/// `afloat check`
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckOptions {
    /// YAML or JSON with objects: a file, a folder with all below it, or - for standard input (may be given several times)
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) cluster: ClusterFlags,
    /// Look at all namespaces of the cluster
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
    /// How to print the findings
    #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
    pub(crate) format: CheckFormat,
    /// Print the fix of each finding, as a JSON patch (text only; the other formats have it always)
    #[arg(long)]
    pub(crate) fixes: bool,
    /// A rule to look for (may be given several times) [default: all]
    #[arg(long, value_name = "RULE", value_parser = parse_rule)]
    pub(crate) rule: Vec<String>,
    /// A rule to leave out (may be given several times)
    #[arg(long, value_name = "RULE", value_parser = parse_rule)]
    pub(crate) ignore: Vec<String>,
    /// End with exit code 1 if there is a finding of at least this severity
    #[arg(long, value_enum, default_value_t = FailOn::Error)]
    pub(crate) fail_on: FailOn,
    /// Data folder of `afloat up` whose images are looked into
    #[arg(long, env = "AFLOAT_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Say all there is to say about a rule
    #[arg(long, value_name = "RULE", value_parser = parse_rule)]
    pub(crate) explain: Option<String>,
    /// List all rules
    #[arg(long)]
    pub(crate) rules: bool,
    /// Print rules as ValidatingAdmissionPolicies with their bindings, for kubectl apply: the API server then looks itself
    #[arg(long, conflicts_with_all = [
        "files", "kubeconfig", "context", "namespace", "all_namespaces", "format", "fixes", "fail_on", "explain", "rules",
    ])]
    pub(crate) policy: bool,
    /// What the API server does with what a policy finds (may be given several times) [default: Warn]
    #[arg(long, value_enum, ignore_case = true, requires = "policy")]
    pub(crate) action: Vec<PolicyAction>,
    /// Labels of the namespaces that the policies are for, as in kubectl's -l [default: all namespaces]
    #[arg(long, value_name = "LABELS", value_parser = parse_labels, requires = "policy")]
    pub(crate) namespace_selector: Option<LabelSelector>,
}

impl CheckOptions {
    /// Whether a rule is looked for.
    pub(super) fn wants(&self, id: &str) -> bool {
        let among = |ids: &[String]| ids.iter().any(|named| named == id);
        (self.rule.is_empty() || among(&self.rule)) && !among(&self.ignore)
    }
}

/// What a policy of `afloat check --policy` does, as the API has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum PolicyAction {
    /// Tell whoever sent the object, and take it
    Warn,
    /// Refuse the object
    Deny,
    /// Write it to the audit log
    Audit,
}

/// How `afloat check` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CheckFormat {
    /// For people
    Text,
    /// One JSON object
    Json,
    /// SARIF 2.1.0, for code hosts
    Sarif,
}

/// When `afloat check` fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FailOn {
    /// At errors
    Error,
    /// At warnings and errors
    Warning,
    /// Only at bad input
    Never,
}

fn parse_rule(text: &str) -> Result<String, String> {
    let known = afloat_check::report::rule(text).map(|_| text.to_owned());
    known.ok_or_else(|| "there is no such rule; `afloat check --rules` lists them".to_owned())
}

/// The labels of a selector that selects something.
fn parse_labels(text: &str) -> Result<LabelSelector, String> {
    let labels = LabelSelector::parse(text)?;
    if labels.selects_all() {
        return Err("says no labels; leave it out for all namespaces".to_owned());
    }
    Ok(labels)
}
