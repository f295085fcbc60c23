//! Label selectors, parsed once per decision.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{ParseExpressionError, Selector, SelectorExt};

/// A parsed label selector.
pub(crate) struct Labels(Selector);

impl Labels {
    /// # Errors
    /// For an unknown operator or missing values.
    pub(crate) fn parse(selector: &LabelSelector) -> Result<Self, ParseExpressionError> {
        Selector::try_from(selector.clone()).map(Self)
    }

    /// Whether the selector selects objects with these labels.
    pub(crate) fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        match labels {
            Some(labels) => self.0.matches(labels),
            None => self.0.matches(&BTreeMap::new()),
        }
    }

    /// Whether it selects everything: workloads refuse such a selector.
    pub(crate) fn is_empty(selector: &LabelSelector) -> bool {
        selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    }
}
