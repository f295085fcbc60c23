//! What evaluating may cost. As in Kubernetes each expression has a limit and all expressions about an object have a budget. The unit is
//! Kubernetes' own, the prices are not quite: this evaluator copies what it looks at, so what is copied is paid for.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use kube_cel::cel::common::types::{CelBytes, CelList, CelMap, CelString};
use kube_cel::cel::common::value::Val;
use kube_cel::cel::{ExecutionError, Value};
use regex::Regex;

use super::given_up::is_given_up;
use crate::cel::pattern;

/// Kubernetes' `PerCallLimit`: what one expression may cost.
const CALL_LIMIT: u64 = 1_000_000;
/// Kubernetes' `RuntimeCELCostBudget`: what all expressions of a definition or a policy's binding may cost for one object.
const BUDGET: u64 = 10_000_000;
/// Copying a value costs this part of a unit.
const COPIES: u64 = 4;
/// Values that one thing that an expression makes may hold before it costs many times as much: memory is what it needs then.
const LARGE: u64 = 10_000;
/// How many times as much.
const LARGE_FACTOR: u64 = 16;
/// Price of compiling a regular expression, in copies.
const REGEX: u64 = 8_000;
/// Regular expressions that are kept compiled at once.
const REGEXES: usize = 16;

/// Values that are looked at: each takes some hundred bytes of memory meanwhile.
pub(crate) const VALUES_LIMIT: usize = 200_000;

/// Kubernetes' words for an expression that costs too much.
pub(crate) const CALL_EXCEEDED: &str = "operation cancelled: actual cost limit exceeded";
/// Kubernetes' words for expressions that together cost too much.
pub(crate) const BUDGET_EXCEEDED: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// Counts what evaluating costs, in copies.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// Of the expression that is being evaluated.
    call: AtomicU64,
    /// Of those before it.
    spent: AtomicU64,
    /// Compiled regular expressions by their text.
    regexes: Mutex<BTreeMap<String, Regex>>,
}

impl Cost {
    /// Whether the budget is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed) > BUDGET * COPIES || is_given_up()
    }

    /// Another budget begins.
    pub(crate) fn renew(&self) {
        self.spent.store(0, Ordering::Relaxed);
    }

    /// An expression begins.
    pub(super) fn begin(&self) {
        self.call.store(0, Ordering::Relaxed);
    }

    /// An expression has ended; whether it cost more than one may.
    pub(super) fn end(&self) -> bool {
        let call = self.call.swap(0, Ordering::Relaxed);
        self.spent.fetch_add(call, Ordering::Relaxed);
        call > CALL_LIMIT * COPIES || is_given_up()
    }

    /// Pays for copies of values outside of an expression.
    pub(crate) fn spend(&self, copies: u64) {
        let spent = self.spent.load(Ordering::Relaxed);
        self.spent.store(spent.saturating_add(copies), Ordering::Relaxed);
    }

    /// Pays for copies of values.
    ///
    /// # Errors
    /// When the expression has cost too much; from then on always.
    pub(super) fn copy(&self, copies: u64) -> Result<(), ExecutionError> {
        let before = self.call.fetch_add(copies, Ordering::Relaxed);
        if before.saturating_add(copies) > CALL_LIMIT * COPIES || is_given_up() {
            return Err(ExecutionError::function_error("cost", CALL_EXCEEDED));
        }
        Ok(())
    }

    /// Pays for steps of an evaluation.
    pub(super) fn steps(&self, steps: u64) -> Result<(), ExecutionError> {
        self.copy(steps.saturating_mul(COPIES))
    }

    /// Pays for something that was made.
    pub(super) fn made(&self, value: &Value) -> Result<(), ExecutionError> {
        let Size { values, bytes } = Size::of(value);
        let factor = if values > LARGE { LARGE_FACTOR } else { 1 };
        self.copy((values * factor).saturating_add(bytes))
    }

    /// `text.matches(pattern)`; patterns are compiled once, unless there are many.
    pub(super) fn matches(&self, text: &str, pattern: &str) -> Result<bool, ExecutionError> {
        self.copy(1 + text.len() as u64 / 8)?;
        let mut regexes = self.regexes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(regex) = regexes.get(pattern) {
            return Ok(regex.is_match(text));
        }
        self.copy(REGEX)?;
        let regex = pattern::compile(pattern).map_err(|error| {
            ExecutionError::function_error("matches", format!("'{pattern}' not a valid regex:\n{error}"))
        })?;
        let matches = regex.is_match(text);
        if regexes.len() >= REGEXES {
            regexes.clear();
        }
        regexes.insert(pattern.to_owned(), regex);
        Ok(matches)
    }

    /// Pays for a regular expression that is compiled elsewhere, with a larger limit and each time.
    pub(super) fn regex(&self) -> Result<(), ExecutionError> {
        self.copy(REGEX * 8)
    }
}

/// How much there is to a value.
#[derive(Clone, Copy, Default)]
pub(crate) struct Size {
    /// Itself and all values within it.
    pub(crate) values: u64,
    /// Bytes of its texts.
    pub(crate) bytes: u64,
}

impl Size {
    /// Price of a look at it.
    pub(crate) fn copies(self) -> u64 {
        self.values + self.bytes / 8
    }

    /// Of a value as functions see it.
    pub(crate) fn of(value: &Value) -> Self {
        let mut size = Self::default();
        let mut waiting = vec![value];
        while let Some(value) = waiting.pop() {
            size.values += 1;
            match value {
                Value::List(items) => waiting.extend(items.iter()),
                Value::Map(map) => {
                    size.values += map.map.len() as u64;
                    waiting.extend(map.map.values());
                }
                Value::String(text) => size.bytes += text.len() as u64,
                Value::Bytes(bytes) => size.bytes += bytes.len() as u64,
                _ => {}
            }
        }
        size
    }

    /// Of a value as the evaluator has it.
    pub(super) fn within(value: &dyn Val) -> Self {
        let mut size = Self::default();
        let mut waiting = vec![value];
        while let Some(value) = waiting.pop() {
            size.values += 1;
            if let Some(list) = value.downcast_ref::<CelList>() {
                waiting.extend(list.inner().iter().map(AsRef::as_ref));
            } else if let Some(map) = value.downcast_ref::<CelMap>() {
                size.values += map.inner().len() as u64;
                waiting.extend(map.inner().values().map(AsRef::as_ref));
            } else if let Some(text) = value.downcast_ref::<CelString>() {
                size.bytes += text.inner().len() as u64;
            } else if let Some(bytes) = value.downcast_ref::<CelBytes>() {
                size.bytes += bytes.inner().len() as u64;
            }
        }
        size
    }
}
