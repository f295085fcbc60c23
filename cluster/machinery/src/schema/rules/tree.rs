//! The rules of a schema, where they stand in it, and the walk that evaluates them over an object.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube_cel::RootContext;
use kube_cel::cel::{Context, Value as Cel};
use serde_json::Value;

use super::failure::failure;
use super::values::{self, Described, Format, Shape};
use crate::FieldError;
use crate::bounds::size;
use crate::cel::{BUDGET_EXCEEDED, CALL_EXCEEDED, Cost, Failure, Program, VALUES_LIMIT, context};

/// A schema at one place.
#[derive(Debug, Default)]
pub(super) struct Node {
    rules: Vec<Rule>,
    /// Whether there is a rule here or further down.
    ruled: bool,
    properties: BTreeMap<String, Node>,
    items: Option<Box<Node>>,
    additional: Option<Box<Node>>,
    /// Of `allOf`, `oneOf` and `anyOf`.
    branches: Vec<Node>,
    shape: Shape,
    /// What it does not describe is kept, and has no rules.
    preserves: bool,
}

#[derive(Debug)]
struct Rule {
    /// What stands for it in messages.
    text: String,
    program: Result<Program, String>,
    message: Option<String>,
    message_expression: Option<Program>,
    reason: Option<String>,
    field_path: Option<String>,
    uses_old: bool,
    optional_old: bool,
}

impl Node {
    pub(super) fn compile(schema: &Value) -> Self {
        let rules = schema.get("x-kubernetes-validations").and_then(Value::as_array);
        let rules: Vec<Rule> = rules.into_iter().flatten().map(Rule::compile).collect();
        let child = |key: &str| schema.get(key).filter(|inner| inner.is_object()).map(Self::compile);
        let (items, additional) = (
            child("items").map(Box::new),
            child("additionalProperties").map(Box::new),
        );
        let properties = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        let properties: BTreeMap<String, Self> = properties
            .map(|(name, inner)| (name.clone(), Self::compile(inner)))
            .collect();
        let branches: Vec<Self> = ["allOf", "oneOf", "anyOf"]
            .into_iter()
            .filter_map(|key| schema.get(key)?.as_array())
            .flatten()
            .map(Self::compile)
            .collect();
        let within = properties
            .values()
            .chain(&branches)
            .chain(items.as_deref())
            .chain(additional.as_deref());
        Self {
            ruled: !rules.is_empty() || within.into_iter().any(|node| node.ruled),
            rules,
            properties,
            items,
            additional,
            branches,
            shape: Shape {
                format: Format::of(schema),
                is_map: !matches!(schema.get("additionalProperties"), None | Some(Value::Bool(false))),
                embedded: schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true)),
            },
            preserves: schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true)),
        }
    }
}

impl Described for Node {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn item(&self) -> Option<&Self> {
        self.items.as_deref()
    }

    fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(self.additional.as_deref())
    }
}

impl Rule {
    fn compile(rule: &Value) -> Self {
        let text = |key: &str| rule.get(key).and_then(Value::as_str).map(str::to_owned);
        let expression = text("rule").unwrap_or_default();
        let program = Program::compile(&expression);
        let message = text("message").filter(|message| !message.is_empty());
        Self {
            text: message.as_deref().unwrap_or(&expression).trim().to_owned(),
            uses_old: program.as_ref().is_ok_and(|program| program.uses("oldSelf")),
            program,
            message_expression: text("messageExpression").and_then(|text| Program::compile(&text).ok()),
            reason: text("reason"),
            field_path: text("fieldPath"),
            optional_old: rule.get("optionalOldSelf") == Some(&Value::Bool(true)),
            message: message.or(Some(format!("failed rule: {expression}"))),
        }
    }
}

/// Of an object. It ends when the budget is used up.
pub(super) struct Walk<'a> {
    object: &'a Value,
    root: &'a RootContext,
    context: Context<'static>,
    cost: Arc<Cost>,
    errors: Vec<FieldError>,
}

/// No further rules are evaluated.
struct Spent;

impl<'a> Walk<'a> {
    pub(super) fn new(object: &'a Value, root: &'a RootContext) -> Self {
        let cost = Arc::new(Cost::default());
        Self {
            object,
            root,
            context: context(&cost),
            cost,
            errors: Vec::new(),
        }
    }

    /// What the rules find wrong.
    pub(super) fn errors(mut self, node: &Node, old: Option<&Value>) -> Vec<FieldError> {
        // What it found before it ended counts all the same.
        let _ = self.at(node, self.object, old, "");
        self.errors
    }

    fn at(&mut self, node: &Node, value: &Value, old: Option<&Value>, path: &str) -> Result<(), Spent> {
        if !node.ruled {
            return Ok(());
        }
        self.rules(node, value, old, path)?;
        match value {
            Value::Object(fields) => {
                for (name, inner) in fields {
                    let known = node.properties.get(name);
                    let other = node.additional.as_deref().filter(|_| !node.preserves);
                    if let Some(node) = known.or(other) {
                        let path = if path.is_empty() {
                            name.clone()
                        } else {
                            format!("{path}.{name}")
                        };
                        self.at(node, inner, old.and_then(|old| old.get(name)), &path)?;
                    }
                }
            }
            Value::Array(items) => {
                if let Some(node) = node.items.as_deref() {
                    for (place, inner) in items.iter().enumerate() {
                        self.at(
                            node,
                            inner,
                            old.and_then(|old| old.get(place)),
                            &format!("{path}[{place}]"),
                        )?;
                    }
                }
            }
            _ => {}
        }
        for branch in &node.branches {
            self.at(branch, value, old, path)?;
        }
        Ok(())
    }

    /// The rules of one place.
    fn rules(&mut self, node: &Node, value: &Value, old: Option<&Value>, path: &str) -> Result<(), Spent> {
        if node.rules.is_empty() || value.is_null() {
            return Ok(());
        }
        let cost = Arc::clone(&self.cost);
        let converted = |value: &Value| {
            let values = size(value).values;
            cost.spend(values as u64);
            if cost.is_spent() || values > VALUES_LIMIT {
                return Err(Spent);
            }
            Ok(values::value(node, value, &self.context))
        };
        let (own, before) = match (converted(value), old.map(converted).transpose()) {
            (Ok(own), Ok(before)) => (own, before),
            _ => return Err(self.spent(path, BUDGET_EXCEEDED)),
        };
        let has_old = before.is_some();
        let mut found = Vec::new();
        let mut ended = None;
        {
            let mut scope = self.context.new_inner_scope();
            scope.add_variable_from_value("self", own);
            scope.add_variable_from_value("oldSelf", before.unwrap_or(Cel::Null));
            if path.is_empty() {
                for (name, text) in [
                    ("apiVersion", &self.root.api_version),
                    ("apiGroup", &self.root.api_group),
                    ("kind", &self.root.kind),
                ] {
                    scope.add_variable_from_value(name, text.as_str());
                }
            }
            let judged = |rule: &&Rule| !rule.uses_old || has_old || rule.optional_old;
            for rule in node.rules.iter().filter(judged) {
                match rule.judge(&scope, &self.cost) {
                    Ok(None) => {}
                    Ok(Some((message, reason))) => found.push((rule.path(path), reason, message)),
                    Err(why) => {
                        ended = Some(why);
                        break;
                    }
                }
            }
        }
        for (path, reason, message) in found {
            self.errors
                .push(failure(self.object, &path, reason.as_deref(), &message));
        }
        ended.map_or(Ok(()), |why| Err(self.spent(path, &why)))
    }

    fn spent(&mut self, path: &str, why: &str) -> Spent {
        self.errors.push(failure(self.object, path, None, why));
        Spent
    }
}

impl Rule {
    /// What is wrong: a message, and the reason. The error is why no further rules are evaluated.
    fn judge(&self, scope: &Context<'_>, cost: &Cost) -> Result<Option<(String, Option<String>)>, String> {
        let program = match &self.program {
            Ok(program) => program,
            Err(why) => return Ok(Some((format!("rule compile error: {why}"), None))),
        };
        match program.execute(scope, cost) {
            Ok(Cel::Bool(true)) => Ok(None),
            Ok(Cel::Bool(false)) => {
                let made = self.message_expression.as_ref();
                let message = match made.map(|made| made.execute(scope, cost)) {
                    Some(Ok(Cel::String(text))) => Some(text.to_string()),
                    Some(Err(Failure::Budget)) => return Err(BUDGET_EXCEEDED.to_owned()),
                    _ => self.message.clone(),
                };
                Ok(Some((message.unwrap_or_default(), self.reason.clone())))
            }
            Ok(_) => Ok(Some((format!("rule \"{}\" did not evaluate to bool", self.text), None))),
            Err(Failure::Budget) => Err(BUDGET_EXCEEDED.to_owned()),
            Err(Failure::Cost) => Err(format!(
                "'{CALL_EXCEEDED}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                self.text
            )),
            Err(Failure::Wrong(why)) => Ok(Some((format!("{why} evaluating rule: {}", self.text), None))),
        }
    }

    /// Where its message points to.
    fn path(&self, base: &str) -> String {
        match self.field_path.as_deref() {
            None => base.to_owned(),
            Some(below) if base.is_empty() => below.trim_start_matches('.').to_owned(),
            Some(below) if below.starts_with(['.', '[']) => format!("{base}{below}"),
            Some(below) => format!("{base}.{below}"),
        }
    }
}
