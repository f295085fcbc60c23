//! What is wanted of a workload that rolls out its ConfigMaps and Secrets: its template, with what they hold now.

use std::time::Duration;

use afloat_rollout::config::reads::reads;
use afloat_rollout::config::{stamped, wished};
use afloat_rollout::workload::history::newest;
use afloat_rollout::workload::revision::template;
use afloat_watching::Looking;
use afloat_words::key::Key;

use crate::kind::Kind;
use crate::operator::Operator;

/// What comes first asks for a round as soon as it has been looked at; this is in case it does not.
const PAUSE: Duration = Duration::from_secs(1);

/// See the module.
pub(super) enum Wanted<K> {
    /// What the workload says.
    AsItIs,
    /// This, and sentences about what could not be told of it.
    With(Box<K>, Vec<String>),
    /// They have not been looked at yet since the workload changed.
    Later(Duration),
}

/// Looks at them, if the workload wishes so. A template that changed is rolled out with what they hold at that time, at once.
pub(super) fn wanted<K: Kind>(operator: &Operator, looking: &Looking<'_>, key: &Key, set: &K) -> Wanted<K> {
    let metadata = set.metadata();
    if !wished(metadata) || metadata.deletion_timestamp.is_some() {
        operator.configs.forget(K::KIND, key);
        return Wanted::AsItIs;
    }
    let sources = reads(set.template()).into_values().flat_map(|all| all.into_keys());
    let Some(known) = operator
        .configs
        .look(K::KIND, key, metadata.generation, sources.collect())
    else {
        return Wanted::Later(PAUSE);
    };
    let uid = metadata.uid.as_deref().unwrap_or_default().into();
    let revisions = looking.at(&operator.revisions).group(&uid);
    let last = newest(&revisions).and_then(|revision| template(revision));
    let stamped = stamped(set.template(), last, &known);
    Wanted::With(Box::new(set.with_template(stamped.template)), stamped.lacks)
}
