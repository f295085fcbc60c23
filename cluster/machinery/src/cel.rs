//! CEL expressions of strangers. The parser and the evaluation go deeper with each bracket and each further link of a chain, on the
//! stack of whoever calls: an expression that is deep enough would end the process. So its depth is bounded before it is parsed, as
//! cel-go does (there 250 expressions within each other; chains are free), and the stack is made large enough for what it may need.

use kube_cel::cel::{Context, Program as Compiled, Value};

mod depth;
pub(crate) use depth::Depth;

/// How deep an expression may be. The parser bounds what is nested, too, with 96, but is not always in order afterwards.
const LIMIT: Depth = Depth { nested: 90, all: 1000 };

/// Bytes that an expression may have. The parser's time grows faster than the text, and it cannot tell of an error further to the right
/// than 65,535.
const LENGTH: usize = 32 << 10;

/// Bytes of stack that the parser takes at most for one expression within another, and for one link: measured with nested lists and
/// with chains of fields, which cost most.
const NESTED: usize = if cfg!(debug_assertions) { 200 << 10 } else { 8 << 10 };
const LINK: usize = if cfg!(debug_assertions) { 48 << 10 } else { 2 << 10 };

/// Bytes that the rest takes: what is called at the deepest place.
const REST: usize = 512 << 10;

impl Depth {
    /// Whether it is within the limit.
    pub(crate) fn is_allowed(self) -> bool {
        self.max(LIMIT) == LIMIT
    }

    /// Runs `work`, which goes this deep, on a stack that has room for it.
    pub(crate) fn with_room<T>(self, work: impl FnOnce() -> T) -> T {
        let room = self.nested.min(LIMIT.nested) * NESTED + self.all.min(LIMIT.all) * LINK + REST;
        stacker::maybe_grow(room, room, work)
    }
}

/// An expression that was compiled.
#[derive(Debug)]
pub(crate) struct Program {
    compiled: Compiled,
    depth: Depth,
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
            .with_room(|| Compiled::compile(text))
            .map_err(|error| error.to_string())?;
        Ok(Self { compiled, depth })
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// Why it has no value.
    pub(crate) fn execute(&self, context: &Context<'_>) -> Result<Value, String> {
        let value = self.depth.with_room(|| self.compiled.execute(context));
        value.map_err(|error| error.to_string())
    }

    /// Whether it names a variable.
    pub(crate) fn uses(&self, variable: &str) -> bool {
        self.depth
            .with_room(|| self.compiled.references().has_variable(variable))
    }
}

#[cfg(test)]
mod tests;
