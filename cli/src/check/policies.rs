//! `afloat check --policy`: rules for the API server itself.

use afloat_check::RULES;
use afloat_check::policy::{self, Action, Binding};

use super::options::{CheckOptions, PolicyAction};

/// The policies and bindings as YAML, after comments with the rules that have none.
pub(super) fn print(options: &CheckOptions) -> anyhow::Result<String> {
    let binding = binding(options)?;
    let (mut comments, mut documents) = (String::new(), String::new());
    for rule in RULES.iter().filter(|rule| options.wants(rule.id)) {
        if let Some(what) = policy::needs(rule) {
            anyhow::ensure!(
                options.rule.is_empty(),
                "--rule {}: there is no policy of it: a policy sees one object, and this has to see {what} as well",
                rule.id
            );
            comments.push_str(&format!("#   {}: {what}\n", rule.id));
        }
        for object in policy::objects(rule, &binding).into_iter().flatten() {
            documents.push_str("---\n");
            documents.push_str(&serde_saphyr::to_string(&object)?);
        }
    }
    anyhow::ensure!(
        !documents.is_empty(),
        "no rule is left: --ignore leaves out all that --rule names"
    );
    let mut head = "# afloat check --policy | kubectl apply -f -\n".to_owned();
    if !comments.is_empty() {
        head.push_str("# A policy sees one object. Only `afloat check` looks for these, which need more:\n");
        head.push_str(&comments);
    }
    Ok(head + &documents)
}

fn binding(options: &CheckOptions) -> anyhow::Result<Binding> {
    let mut actions: Vec<Action> = options.action.iter().map(|action| action.in_api()).collect();
    actions.sort_unstable();
    actions.dedup();
    // Whoever is refused is told why in any case.
    anyhow::ensure!(
        !(actions.contains(&Action::Warn) && actions.contains(&Action::Deny)),
        "--action Deny and --action Warn exclude each other: say one"
    );
    if actions.is_empty() {
        actions.push(Action::Warn);
    }
    Ok(Binding {
        actions,
        namespaces: options.namespace_selector.as_ref().map(|labels| labels.to_api()),
    })
}

impl PolicyAction {
    fn in_api(self) -> Action {
        match self {
            Self::Warn => Action::Warn,
            Self::Deny => Action::Deny,
            Self::Audit => Action::Audit,
        }
    }
}
