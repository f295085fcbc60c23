//! `afloat crds`.

use afloat_api::{Serving, Version, definitions};
use clap::{Args, ValueEnum};

use crate::options::serving::{Served, ServingOptions};
use crate::output;

/// `afloat crds`
#[derive(Args, Clone, Debug)]
pub(crate) struct CrdsOptions {
    #[command(flatten)]
    serving: ServingOptions,
    /// Version in which objects are stored from now on; v1alpha1 only on the way back to OpenKruise, whose releases know no other
    #[arg(long, value_enum, default_value_t = Stored::V1beta1)]
    store: Stored,
    /// Leave pod templates as they are written, as OpenKruise does with its gate TemplateNoDefaults
    #[arg(long)]
    template_no_defaults: bool,
}

/// Version in which objects are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stored {
    V1beta1,
    V1alpha1,
}

/// Prints the definitions.
pub(crate) fn print_crds(options: &CrdsOptions) -> anyhow::Result<i32> {
    if options.serving.serve == Served::V1beta1 && options.store == Stored::V1alpha1 {
        anyhow::bail!("--store v1alpha1 needs the webhook: it does not go with --serve v1beta1");
    }
    let serving = Serving {
        stored: match options.store {
            Stored::V1beta1 => Version::V1beta1,
            Stored::V1alpha1 => Version::V1alpha1,
        },
        template_defaults: !options.template_no_defaults,
        ..options.serving.serving()
    };
    let mut text = head(&serving);
    for definition in definitions(&serving) {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&definition)?);
    }
    output::print(&text)?;
    Ok(0)
}

/// Which mode this is, for whoever reads the YAML.
fn head(serving: &Serving) -> String {
    let stored = serving.stored.name();
    match &serving.webhook {
        Some(_) => format!(
            "# Workloads in v1alpha1 and v1beta1, stored as {stored}. The operator's webhook converts; v1beta1 does not need it.\n\
             # Without a webhook: afloat crds --serve v1beta1\n"
        ),
        None => "# Workloads in v1beta1 alone: no webhook, nothing is converted.\n\
                 # Not for objects that OpenKruise stored as v1alpha1: run the operator with the definitions of `afloat crds` first, until\n\
                 # status.storedVersions of clonesets.apps.kruise.io is [v1beta1].\n"
            .to_owned(),
    }
}
