//! An expression that counts what it costs while it is evaluated: the evaluator has no hooks, so calls of functions of ours are woven into
//! the expression wherever the evaluator copies, repeats or makes something. Once too much has been spent each of them fails, which
//! ends every loop at its next turn.

use std::sync::Arc;

use kube_cel::KubeCelExt as _;
use kube_cel::cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, ListExpr, LiteralValue, MapEntryExpr, MapExpr, SelectExpr, operators,
};
use kube_cel::cel::parser::Expression;
use kube_cel::cel::{Context, ExecutionError, FunctionContext, Value};

use super::cost::{Cost, Size};

/// Pays for the value of a path or variable, which is not looked at otherwise: true.
const LOOK: &str = "@look";
/// Pays for a turn of a loop: true.
const TURN: &str = "@turn";
/// The value of its argument, which is paid for.
const MADE: &str = "@made";
/// Calls the function that its first argument names.
const FUNCTION: &str = "@function";
/// Calls the function that its first argument names as a method of the second.
const METHOD: &str = "@method";

/// A context with all functions, those that count included.
pub(crate) fn context(cost: &Arc<Cost>) -> Context<'static> {
    let mut context = Context::default().with_all();
    // There are no types to be forgotten here.
    context.add_function("dyn", |value: Value| -> Result<Value, ExecutionError> { Ok(value) });
    let own = Arc::clone(cost);
    context.add_function(LOOK, move |call: &FunctionContext<'_, '_>| look(&own, call));
    let own = Arc::clone(cost);
    context.add_function(TURN, move |steps: i64| -> Result<bool, ExecutionError> {
        own.steps(steps.unsigned_abs()).map(|()| true)
    });
    let own = Arc::clone(cost);
    context.add_function(MADE, move |value: Value| -> Result<Value, ExecutionError> {
        own.made(&value).map(|()| value)
    });
    let own = Arc::clone(cost);
    context.add_function(FUNCTION, move |call: &FunctionContext<'_, '_>| {
        called(&own, call, false)
    });
    let own = Arc::clone(cost);
    context.add_function(METHOD, move |call: &FunctionContext<'_, '_>| called(&own, call, true));
    let own = Arc::clone(cost);
    context.add_function(
        "matches",
        move |call: &FunctionContext<'_, '_>| -> Result<bool, ExecutionError> {
            let arguments = call.args.iter().map(|argument| Value::resolve(argument, call.ptx));
            let all: Vec<Value> = call
                .this
                .clone()
                .map(Ok)
                .into_iter()
                .chain(arguments)
                .collect::<Result<_, _>>()?;
            match all.as_slice() {
                [Value::String(text), Value::String(pattern)] => own.matches(text, pattern),
                _ => Err(ExecutionError::NoSuchOverload),
            }
        },
    );
    context
}

/// The same expression, counting. None if there is something in it that cannot be evaluated: a message of protobuf.
pub(super) fn metered(node: &Expression) -> Option<Expression> {
    let expr = match &node.expr {
        Expr::Unspecified | Expr::Struct(_) => return None,
        Expr::Literal(_) | Expr::Ident(_) => return Some(node.clone()),
        Expr::Select(select) if is_path(node) && !select.test => return Some(looked_at(node.clone())),
        Expr::Select(select) => Expr::Select(SelectExpr {
            operand: Box::new(metered(&select.operand)?),
            ..select.clone()
        }),
        Expr::List(list) => Expr::List(ListExpr {
            elements: list.elements.iter().map(operand).collect::<Option<_>>()?,
            optional_indices: list.optional_indices.clone(),
        }),
        Expr::Map(map) => Expr::Map(metered_map(map)?),
        Expr::Comprehension(comprehension) => Expr::Comprehension(Box::new(metered_loop(comprehension)?)),
        Expr::Call(call) => return metered_call(call),
    };
    Some(Expression { id: node.id, expr })
}

/// The same, where the value of a variable is copied, too.
fn operand(node: &Expression) -> Option<Expression> {
    match node.expr {
        Expr::Ident(_) => Some(looked_at(node.clone())),
        _ => metered(node),
    }
}

fn metered_map(map: &MapExpr) -> Option<MapExpr> {
    let mut metered_entries = map.entries.clone();
    for entry in &mut metered_entries {
        let EntryExpr::MapEntry(MapEntryExpr { key, value, .. }) = &mut entry.expr else {
            return None;
        };
        (*key, *value) = (metered(key)?, operand(value)?);
    }
    Some(MapExpr {
        entries: metered_entries,
    })
}

fn metered_loop(comprehension: &ComprehensionExpr) -> Option<ComprehensionExpr> {
    let steps = LiteralValue::Int(size(&comprehension.loop_step).into());
    let turn = call(TURN, vec![node(Expr::Literal(steps))]);
    Some(ComprehensionExpr {
        iter_range: operand(&comprehension.iter_range)?,
        accu_init: operand(&comprehension.accu_init)?,
        loop_cond: call(operators::LOGICAL_AND, vec![turn, metered(&comprehension.loop_cond)?]),
        loop_step: operand(&comprehension.loop_step)?,
        result: metered(&comprehension.result)?,
        ..comprehension.clone()
    })
}

fn metered_call(original: &CallExpr) -> Option<Expression> {
    let name = original.func_name.as_str();
    let logical = matches!(
        name,
        operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE
    );
    let arguments = original.args.iter();
    if logical {
        return Some(call(name, arguments.map(metered).collect::<Option<_>>()?));
    }
    let arguments = arguments.map(operand).collect::<Option<Vec<_>>>()?;
    if name == operators::ADD {
        return Some(call(MADE, vec![call(name, arguments)]));
    }
    if name.starts_with(['_', '@', '-']) {
        return Some(call(name, arguments));
    }
    let mut all = vec![node(Expr::Literal(LiteralValue::String(name.into())))];
    let kind = match &original.target {
        Some(target) => {
            all.push(metered(target)?);
            METHOD
        }
        None => FUNCTION,
    };
    all.extend(arguments);
    Some(call(kind, all))
}

/// How many nodes an expression has.
fn size(node: &Expression) -> i64 {
    let within = match &node.expr {
        Expr::Select(select) => size(&select.operand),
        Expr::List(list) => list.elements.iter().map(size).sum(),
        Expr::Call(call) => call.args.iter().chain(call.target.as_deref()).map(size).sum(),
        // A loop pays for its turns by itself.
        _ => 0,
    };
    within + 1
}

/// Whether it is a variable's field, or a field of one.
fn is_path(node: &Expression) -> bool {
    match &node.expr {
        Expr::Ident(_) => true,
        Expr::Select(select) => !select.test && is_path(&select.operand),
        _ => false,
    }
}

/// A path or variable that is paid for before it is evaluated.
fn looked_at(path: Expression) -> Expression {
    let never = node(Expr::Literal(LiteralValue::Null));
    call(
        operators::CONDITIONAL,
        vec![call(LOOK, vec![path.clone()]), path, never],
    )
}

fn call(name: &str, args: Vec<Expression>) -> Expression {
    node(Expr::Call(CallExpr {
        func_name: name.to_owned(),
        target: None,
        args,
    }))
}

fn node(expr: Expr) -> Expression {
    Expression { id: 0, expr }
}

/// Pays for what the evaluator copies on its way along a path: the value of each field.
fn look(cost: &Cost, call: &FunctionContext<'_, '_>) -> Result<bool, ExecutionError> {
    let Some(path) = call.args.first() else {
        return Ok(true);
    };
    let mut fields = Vec::new();
    let mut at = path;
    while let Expr::Select(select) = &at.expr {
        fields.push(select.field.as_str());
        at = &select.operand;
    }
    let Expr::Ident(name) = &at.expr else {
        return Ok(true);
    };
    let Some(variable) = call.ptx.get_variable(name) else {
        return Ok(true);
    };
    let mut copies = 1;
    if fields.is_empty() {
        copies += Size::within(variable.as_ref()).copies();
    }
    let mut value = variable.as_ref();
    for field in fields.iter().rev() {
        let map = value.downcast_ref::<kube_cel::cel::common::types::CelMap>();
        let key = kube_cel::cel::common::types::CelMapKey::String((*field).into());
        let Some(inner) = map.and_then(|map| map.inner().get(&key)) else {
            break;
        };
        value = inner.as_ref();
        copies += Size::within(value).copies();
    }
    cost.copy(copies).map(|()| true)
}

/// Calls a function and pays for what it reads and makes.
fn called(cost: &Cost, call: &FunctionContext<'_, '_>, method: bool) -> Result<Value, ExecutionError> {
    let Some((name, rest)) = call.args.split_first() else {
        return Err(ExecutionError::NoSuchOverload);
    };
    let Expr::Literal(LiteralValue::String(name)) = &name.expr else {
        return Err(ExecutionError::NoSuchOverload);
    };
    let name = name.inner();
    let mut scope = call.ptx.new_inner_scope();
    let mut sizes = Vec::new();
    let mut values = Vec::new();
    let mut named = Vec::new();
    for (place, argument) in rest.iter().enumerate() {
        // The first name of `math.least(…)` is no variable.
        if let (0, true, Expr::Ident(variable)) = (place, method, &argument.expr) {
            let known = call.ptx.get_variable(variable);
            sizes.push(known.map_or_else(Size::default, |value| Size::within(value.as_ref())));
            named.push(argument.clone());
            continue;
        }
        let value = Value::resolve(argument, call.ptx)?;
        sizes.push(Size::of(&value));
        let variable = format!("@{place}");
        scope.add_variable_from_value(variable.as_str(), value.clone());
        values.push(value);
        named.push(node(Expr::Ident(variable)));
    }
    cost.copy(1 + sizes.iter().map(|size| size.copies()).sum::<u64>())?;
    before(cost, name, &sizes, &values)?;
    let target = if method && !named.is_empty() {
        Some(Box::new(named.remove(0)))
    } else {
        None
    };
    let inner = node(Expr::Call(CallExpr {
        func_name: name.to_owned(),
        target,
        args: named,
    }));
    let result = Value::resolve(&inner, &scope)?;
    cost.made(&result)?;
    Ok(result)
}

/// Pays for what a function costs beyond reading its arguments, before it is called.
fn before(cost: &Cost, name: &str, sizes: &[Size], values: &[Value]) -> Result<(), ExecutionError> {
    let product = |of: fn(&Size) -> u64| {
        sizes
            .iter()
            .map(of)
            .fold(1, |all: u64, one| all.saturating_mul(one.max(1)))
    };
    match name {
        // Each element meets each; each place takes the new text.
        "contains" | "equivalent" | "intersects" | "containsAll" => cost.copy(product(|size| size.values)),
        "replace" | "join" => cost.copy(product(|size| size.values + size.bytes) / 4),
        "distinct" | "isSorted" | "sort" => {
            let longest = sizes.iter().map(|size| size.values).max().unwrap_or_default();
            cost.copy(longest.saturating_mul(longest) / 8)
        }
        "find" | "findAll" => cost.regex(),
        "range" => match values {
            [Value::Int(length)] => cost.copy(length.unsigned_abs().saturating_mul(16)),
            _ => Ok(()),
        },
        "format" => {
            let texts = values.iter().filter_map(|value| match value {
                Value::String(text) => Some(text.as_str()),
                _ => None,
            });
            // As many digits as a format asks for.
            let digits = texts.flat_map(|text| text.split(|c: char| !c.is_ascii_digit()));
            let asked = digits
                .filter(|run| !run.is_empty())
                .map(|run| run.parse().unwrap_or(u64::MAX));
            cost.copy(asked.fold(0, u64::saturating_add))
        }
        _ => Ok(()),
    }
}
