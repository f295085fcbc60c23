//! `afloat check`: reads objects from files or a cluster and prints what the rules say about them.

pub(crate) mod files;
pub(crate) mod images;
pub(crate) mod input;
pub(crate) mod live;
mod options;
mod policies;
mod render;

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use afloat_check::report::{self, Place, Style};
use afloat_check::{Finding, RULES, Severity};
use serde_json::Value;

use crate::output;
use input::Read;
use options::{CheckFormat, FailOn};

pub(crate) use options::CheckOptions;

/// Bad input is told from findings by its exit code.
const BAD_INPUT: u8 = 2;

pub(crate) fn run_check(options: &CheckOptions) -> ExitCode {
    finish(print_findings(options))
}

/// Makes an exit code, and an error one line.
pub(crate) fn finish(result: anyhow::Result<u8>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("afloat: {}", output::one_line(&error));
            ExitCode::from(BAD_INPUT)
        }
    }
}

fn print_findings(options: &CheckOptions) -> anyhow::Result<u8> {
    if let Some(id) = &options.explain {
        output::print(&explain(id))?;
        return Ok(0);
    }
    if options.rules {
        output::print(&list())?;
        return Ok(0);
    }
    if options.policy {
        output::print(&policies::print(options)?)?;
        return Ok(0);
    }
    let objects = read(options)?;
    let values: Vec<Value> = objects.iter().map(|object| object.value.clone()).collect();
    let images = images::known(options.data_dir.as_deref(), &values)?;
    let ids = RULES.iter().map(|rule| rule.id);
    let ignored: BTreeSet<String> = ids.filter(|id| !options.wants(id)).map(str::to_owned).collect();
    let findings = afloat_check::check(&values, &images, &ignored);
    let places = |finding: &Finding| {
        let object = objects.get(finding.index);
        object.map_or_else(Place::default, |object| Place {
            file: object.file.clone(),
            line: object.line(&finding.pointer),
        })
    };
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let style = Style {
        colour,
        fixes: options.fixes,
    };
    let text = match options.format {
        CheckFormat::Text => report::text(&findings, objects.len(), &places, style),
        CheckFormat::Json => format!("{:#}\n", report::json(&findings, &places)),
        CheckFormat::Sarif => format!("{:#}\n", report::sarif(&findings, env!("CARGO_PKG_VERSION"), &places)),
    };
    output::print(&text)?;
    let least = match options.fail_on {
        FailOn::Error => Some(Severity::Error),
        FailOn::Warning => Some(Severity::Warning),
        FailOn::Never => None,
    };
    let fails = least.is_some_and(|least| findings.iter().any(|finding| finding.severity >= least));
    Ok(u8::from(fails))
}

fn read(options: &CheckOptions) -> anyhow::Result<Vec<Read>> {
    let cluster = &options.cluster;
    let live = options.all_namespaces
        || cluster.kubeconfig.is_some()
        || cluster.context.is_some()
        || cluster.namespace.is_some();
    match (options.files.as_slice(), live) {
        ([], false) => anyhow::bail!("nothing to look at: say -f FILE, or -n NAMESPACE or -A for a cluster"),
        ([], true) => live::objects(cluster, options.all_namespaces),
        (_, true) => {
            anyhow::bail!("-f and a cluster (--kubeconfig, --context, -n, -A) are two things to look at: say one")
        }
        (named, false) => files::read(named),
    }
}

fn list() -> String {
    let width = RULES.iter().map(|rule| rule.id.len()).max().unwrap_or(0);
    let line =
        |rule: &afloat_check::Rule| format!("{:width$}  {:7}  {}\n", rule.id, rule.severity.as_str(), rule.title);
    RULES.iter().map(line).collect()
}

fn explain(id: &str) -> String {
    report::rule(id).map_or_else(String::new, |rule| {
        format!(
            "{} ({}): {}\n\n{}\n\nFix: {}\n\nTo leave it out for one object: annotation {}: \"{}\"\nRead on: {}\n",
            rule.id,
            rule.severity.as_str(),
            rule.title,
            rule.why,
            rule.remedy,
            afloat_check::IGNORE,
            rule.id,
            rule.link
        )
    })
}
