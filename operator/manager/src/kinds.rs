//! The kinds of workload that the operator looks after, a row each.

mod cloneset;
mod daemonset;
mod statefulset;

use std::sync::Arc;

use afloat_api::{CloneSet, DaemonSet, StatefulSet};

use crate::controller::Controller;
use crate::operator::Operator;
use crate::work::Controls;

/// A controller of each kind.
pub(crate) fn all(operator: &Arc<Operator>) -> Vec<Arc<dyn Controls>> {
    vec![
        Controller::<CloneSet>::new(operator),
        Controller::<DaemonSet>::new(operator),
        Controller::<StatefulSet>::new(operator),
    ]
}
