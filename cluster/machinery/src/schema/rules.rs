//! What of a schema is worth compiling once: CEL rules and regular expressions.

mod failure;
mod tree;
mod values;

use std::sync::Arc;

use kube_cel::RootContext;
use serde_json::Value;

use crate::FieldError;
use crate::cel::Depth;
use crate::cel::pattern;
pub(super) use failure::type_name;
use tree::{Node, Walk};

/// The compiled parts of one schema.
#[derive(Clone, Debug)]
pub struct Rules(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    /// The rules, and how deep the deepest of their expressions is.
    cel: Option<(Depth, Node)>,
    /// Whether there are regular expressions: those are compiled when they are needed.
    patterns: bool,
}

impl Rules {
    /// Compiles a schema. None if it has neither rules nor patterns.
    pub fn compile(schema: &Value) -> Option<Self> {
        let mut found = Found::default();
        found.walk(schema);
        // Rules that are too deep were refused with their CRD. Should a store hold some, they are not evaluated: the server goes on.
        let cel = found.depth.filter(|depth| depth.is_allowed());
        let cel = cel.map(|depth| (depth, Node::compile(schema)));
        let patterns = found.patterns;
        (cel.is_some() || patterns).then(|| Self(Arc::new(Compiled { cel, patterns })))
    }

    /// Whether `text` has a match of `pattern`. True for patterns that do not compile: those were refused with their CRD.
    pub(super) fn matches(pattern: &str, text: &str) -> bool {
        pattern::matches(pattern, text).unwrap_or(true)
    }

    /// Whether there are expressions to be evaluated, of either kind.
    pub fn evaluates(&self) -> bool {
        self.0.cel.is_some() || self.0.patterns
    }

    /// Evaluates the CEL rules.
    pub(super) fn check(&self, root: &RootContext, old: Option<&Value>, object: &Value) -> Vec<FieldError> {
        let Some((_, cel)) = &self.0.cel else {
            return Vec::new();
        };
        Walk::new(object, root).errors(cel, old)
    }
}

/// What a walk over a schema has found.
#[derive(Default)]
struct Found {
    /// Of the deepest expression in any rule; None without rules.
    depth: Option<Depth>,
    patterns: bool,
}

impl Found {
    fn walk(&mut self, schema: &Value) {
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
        for rule in rules.into_iter().flatten() {
            let texts = ["rule", "messageExpression"]
                .into_iter()
                .filter_map(|key| rule.get(key)?.as_str());
            let deepest = texts.map(Depth::of).fold(self.depth.unwrap_or_default(), Depth::max);
            self.depth = Some(deepest);
        }
        self.patterns |= schema.get("pattern").is_some_and(Value::is_string);
        for key in ["items", "additionalProperties", "not"] {
            if let Some(inner) = schema.get(key) {
                self.walk(inner);
            }
        }
        if let Some(Value::Object(properties)) = schema.get("properties") {
            properties.values().for_each(|inner| self.walk(inner));
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            if let Some(Value::Array(schemas)) = schema.get(key) {
                schemas.iter().for_each(|inner| self.walk(inner));
            }
        }
    }
}
