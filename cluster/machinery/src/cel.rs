//! CEL expressions of strangers. The parser and the evaluation go deeper with each bracket and each further link of a chain, on the
//! stack of whoever calls: an expression that is deep enough would end the process. So its depth is bounded before it is parsed, as
//! cel-go does (there 250 expressions within each other; chains are free), and the stack is made large enough for what it may need.
//! What it costs is bounded while it is evaluated.

use kube_cel::cel::parser::Expression;
use kube_cel::cel::{Context, Program as Compiled, Value};

mod cost;
mod depth;
mod given_up;
mod metered;
pub(crate) mod pattern;
pub(crate) use cost::{BUDGET_EXCEEDED, CALL_EXCEEDED, Cost, Size, VALUES_LIMIT};
pub(crate) use depth::Depth;
pub use given_up::until_given_up;
pub(crate) use metered::context;

/// How deep an expression may be. The parser bounds what is nested, too, with 96, but is not always in order afterwards.
const LIMIT: Depth = Depth { nested: 90, all: 1000 };

/// Bytes that an expression may have. The parser's time grows faster than the text, and it cannot tell of an error further to the right
/// than 65,535.
const LENGTH: usize = 32 << 10;

/// Bytes of stack that the parser takes at most for one expression within another, and for one link: measured with nested lists and
/// with chains of fields, which cost most.
const NESTED: usize = if cfg!(debug_assertions) { 200 << 10 } else { 8 << 10 };
const LINK: usize = if cfg!(debug_assertions) { 48 << 10 } else { 2 << 10 };

/// How much more the evaluation takes at most: what counts is called between one expression and the next.
const EVALUATED: usize = 3;

/// Bytes that the rest takes: what is called at the deepest place.
const REST: usize = 512 << 10;

impl Depth {
    /// Whether it is within the limit.
    pub(crate) fn is_allowed(self) -> bool {
        self.max(LIMIT) == LIMIT
    }

    /// Runs `work`, which goes this deep, on a stack that has room for it.
    fn with_room<T>(self, times: usize, work: impl FnOnce() -> T) -> T {
        let room = self.nested.min(LIMIT.nested) * NESTED + self.all.min(LIMIT.all) * LINK;
        stacker::maybe_grow(room * times + REST, room * times + REST, work)
    }
}

/// Bytes that an error's text may have: it may show values.
const TOLD: usize = 1 << 10;

/// An expression that was compiled.
#[derive(Debug)]
pub(crate) struct Program {
    compiled: Compiled,
    /// What is evaluated: the same, counting.
    metered: Expression,
    depth: Depth,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// It is wrong for these values.
    Wrong(String),
    /// It costs more than an expression may.
    Cost,
    /// It and those before it cost more than all may.
    Budget,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Wrong(why) => why,
            Self::Cost => CALL_EXCEEDED,
            Self::Budget => BUDGET_EXCEEDED,
        })
    }
}

impl Program {
    /// Compiles `text`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn compile(text: &str) -> Result<Self, String> {
        if text.len() > LENGTH {
            return Err(format!(
                "the expression is too long: {} bytes, and {LENGTH} are allowed",
                text.len()
            ));
        }
        let depth = Depth::of(text);
        if !depth.is_allowed() {
            return Err(format!(
                "expression recursion limit exceeded: it may have {} expressions within each other, and {} operators in a chain",
                LIMIT.nested, LIMIT.all,
            ));
        }
        let compiled = depth
            .with_room(1, || Compiled::compile(text))
            .map_err(|error| error.to_string())?;
        let metered = depth
            .with_room(1, || metered::metered(compiled.expression()))
            .ok_or("messages of protobuf cannot be made here")?;
        Ok(Self {
            compiled,
            metered,
            depth,
        })
    }

    /// Evaluates it in a context that [`context`] made with `cost`.
    ///
    /// # Errors
    /// Why it has no value.
    pub(crate) fn execute(&self, context: &Context<'_>, cost: &Cost) -> Result<Value, Failure> {
        if cost.is_spent() {
            return Err(Failure::Budget);
        }
        cost.begin();
        let value = self
            .depth
            .with_room(EVALUATED, || Value::resolve(&self.metered, context));
        // Whatever the value: an error within `||` is no error.
        if cost.end() {
            return Err(Failure::Cost);
        }
        if cost.is_spent() {
            return Err(Failure::Budget);
        }
        value.map_err(|error| {
            let mut why = error.to_string();
            why.truncate(why.floor_char_boundary(TOLD));
            Failure::Wrong(why)
        })
    }

    /// Whether it names a variable.
    pub(crate) fn uses(&self, variable: &str) -> bool {
        self.depth
            .with_room(1, || self.compiled.references().has_variable(variable))
    }
}

#[cfg(test)]
mod tests;
