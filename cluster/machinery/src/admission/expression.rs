//! CEL with what Kubernetes gives it to work on.

use std::sync::Arc;

use kube_cel::cel::objects::{Key, Map};
use kube_cel::cel::{Context, ExecutionError, Value as Cel};
use serde_json::{Value, json};

use super::request::Request;
use crate::bounds::size;
use crate::cel::{CALL_EXCEEDED, Cost, Program, Size, VALUES_LIMIT, context};

/// A CEL expression.
#[derive(Debug)]
pub(crate) struct Expression {
    text: String,
    program: Result<Program, String>,
}

impl Expression {
    /// Compiles it.
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            program: Program::compile(text),
        }
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Why it cannot be evaluated by this server, whatever the request.
    pub(crate) fn problem(&self) -> Option<String> {
        match &self.program {
            Err(error) => Some(format!("compilation failed: {error}")),
            Ok(program) => {
                let missing = ["authorizer", "params"].into_iter().find(|name| program.uses(name));
                missing
                    .map(|name| format!("compilation failed: undeclared reference to '{name}' (this server has none)"))
            }
        }
    }

    fn evaluate(&self, context: &Context<'_>, cost: &Cost) -> Result<Cel, String> {
        let program = self.program.as_ref().map_err(Clone::clone)?;
        program.execute(context, cost).map_err(|failure| failure.to_string())
    }

    fn holds(&self, context: &Context<'_>, cost: &Cost) -> Result<bool, String> {
        match self.evaluate(context, cost)? {
            Cel::Bool(held) => Ok(held),
            other => Err(format!("it must be a bool, and is of type {}", other.type_of())),
        }
    }
}

/// What expressions see of a request.
pub(super) struct Scope {
    context: Context<'static>,
    cost: Arc<Cost>,
    /// What is asked about is larger than expressions look at.
    too_large: bool,
}

impl Scope {
    pub(super) fn new(request: &Request<'_>) -> Self {
        let cost = Arc::new(Cost::default());
        let mut context = context(&cost);
        let all = [request.object, request.old, request.namespace];
        let too_large = all.into_iter().flatten().map(|value| size(value).values).sum::<usize>() > VALUES_LIMIT;
        let seen = |value: Option<&Value>| value.filter(|_| !too_large).map_or(Cel::Null, cel);
        context.add_variable_from_value("object", seen(request.object));
        context.add_variable_from_value("oldObject", seen(request.old));
        context.add_variable_from_value("namespaceObject", seen(request.namespace));
        context.add_variable_from_value("request", cel(&described(request)));
        Self {
            context,
            cost,
            too_large,
        }
    }

    /// A policy is asked, which has a budget of its own.
    pub(super) fn begin(&self) {
        self.cost.renew();
        if self.too_large {
            self.cost.spend(u64::MAX);
        }
    }

    pub(super) fn holds(&self, expression: &Expression) -> Result<bool, String> {
        expression.holds(&self.context, &self.cost)
    }

    /// Evaluates a policy's variables, each of which may use those before it. One that fails is missed by whoever uses it,
    /// and by nobody else: Kubernetes evaluates only what is used.
    pub(super) fn with_variables(&self, variables: &[(String, Expression)]) -> Variables<'_> {
        let mut known: Vec<(Key, Cel)> = Vec::new();
        let mut broken = Vec::new();
        let mut held = 0;
        let mut context = self.context.new_inner_scope();
        context.add_variable_from_value("variables", map([]));
        for (name, expression) in variables {
            match expression.evaluate(&context, &self.cost) {
                Ok(value) => {
                    held += Size::of(&value).values;
                    // All of them are copied for the next.
                    self.cost.spend(held);
                    if held > VALUES_LIMIT as u64 {
                        broken.push((name.clone(), CALL_EXCEEDED.to_owned()));
                        continue;
                    }
                    known.push((name.as_str().into(), value));
                    context.add_variable_from_value("variables", map(known.clone()));
                }
                Err(error) => broken.push((name.clone(), error)),
            }
        }
        Variables {
            context,
            cost: &self.cost,
            broken,
        }
    }
}

/// What a policy's validations see.
pub(super) struct Variables<'a> {
    context: Context<'a>,
    cost: &'a Cost,
    /// Variables that could not be evaluated, and why.
    broken: Vec<(String, String)>,
}

impl Variables<'_> {
    pub(super) fn holds(&self, expression: &Expression) -> Result<bool, String> {
        expression
            .holds(&self.context, self.cost)
            .map_err(|error| self.why(error))
    }

    /// The expression's text; None if it has none.
    pub(super) fn text(&self, expression: &Expression) -> Option<String> {
        match expression.evaluate(&self.context, self.cost) {
            Ok(Cel::String(text)) => Some(text.to_string()),
            _ => None,
        }
    }

    /// The error of the variable that was missed, rather than that it was missed.
    fn why(&self, error: String) -> String {
        let missed = |(name, _): &&(String, String)| error == ExecutionError::no_such_key(name).to_string();
        self.broken
            .iter()
            .find(missed)
            .map_or_else(|| error.clone(), |(_, cause)| cause.clone())
    }
}

/// `request`: Kubernetes' `AdmissionRequest` without what a policy has elsewhere.
fn described(request: &Request<'_>) -> Value {
    let resource = request.resource;
    let kind = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let names = json!({"group": resource.group, "version": resource.version, "resource": resource.plural});
    let namespace = request.namespace.map_or("", |n| super::text(&n["metadata"]["name"]));
    json!({
        "kind": kind, "resource": names, "subResource": request.subresource,
        "requestKind": kind, "requestResource": names, "requestSubResource": request.subresource,
        "name": request.name, "namespace": namespace, "operation": request.operation.as_str(),
        "userInfo": {"username": request.user, "groups": request.groups, "uid": "", "extra": {}},
        "dryRun": request.dry_run, "options": {},
    })
}

/// What CEL makes of JSON: whole numbers are `int`, whatever their sign.
fn cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Cel::Int(whole),
            None => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(cel).collect::<Vec<_>>().into(),
        Value::Object(fields) => map(fields.iter().map(|(key, value)| (key.as_str().into(), cel(value)))),
    }
}

fn map(entries: impl IntoIterator<Item = (Key, Cel)>) -> Cel {
    Cel::Map(Map {
        map: Arc::new(entries.into_iter().collect()),
    })
}
