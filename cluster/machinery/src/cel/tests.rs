//! Depths, and that whatever is as deep as allowed fits.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;

/// Shapes that nest, `n` times.
fn nested(n: usize) -> Vec<String> {
    let around = |open: &str, close: &str| format!("{}1{}", open.repeat(n), close.repeat(n));
    vec![
        around("(", ")"),
        around("[", "]"),
        around("{1:", "}"),
        around("size(", ")"),
        around("[1].map(x, ", ")"),
        around("true ? 1 : ", ""),
    ]
}

/// Shapes that are long.
fn chained(n: usize) -> Vec<String> {
    let behind = |start: &str, link: &str| format!("{start}{}", link.repeat(n));
    vec![
        format!("{}true", "!".repeat(n)),
        format!("{}1", "- ".repeat(n)),
        behind("a", ".a"),
        behind("a", ".f()"),
        behind("a", "[1]"),
        behind("1", " + 1"),
        behind("1", " == 1"),
        behind("true", " && true"),
        behind("true", " || true"),
        behind("true", " in [true]"),
        behind("true", " in"),
    ]
}

fn evaluate(program: &Program, variables: &[(&str, Value)]) -> Result<Value, Failure> {
    let cost = Arc::new(Cost::default());
    let mut context = context(&cost);
    for (name, value) in variables {
        context.add_variable_from_value(*name, value.clone());
    }
    program.execute(&context, &cost)
}

fn value(text: &str, variables: &[(&str, Value)]) -> Result<Value, Failure> {
    evaluate(&Program::compile(text).unwrap(), variables)
}

/// As small as a thread may be that handles a request.
fn on_a_small_stack(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(1 << 20)
            .spawn_scoped(scope, work);
        thread.unwrap().join().unwrap();
    });
}

#[test]
fn an_expression_as_deep_as_allowed_is_parsed_evaluated_and_dropped() {
    // A bracket in a chain counts for what is in it and for the link that it is.
    for text in [nested(LIMIT.nested), chained(LIMIT.all / 2 - 1)].concat() {
        assert!(Depth::of(&text).is_allowed(), "{text}");
        on_a_small_stack(|| {
            if let Ok(program) = Program::compile(&text) {
                let _ = (evaluate(&program, &[]), program.uses("authorizer"));
            }
        });
    }
}

#[test]
fn a_deeper_one_is_refused_before_it_is_parsed() {
    for text in [nested(LIMIT.nested + 1), chained(LIMIT.all + 1), nested(2_000)].concat() {
        let told = Program::compile(&text).unwrap_err();
        assert!(
            told.starts_with("expression recursion limit exceeded"),
            "{told}: {}",
            &text[..20]
        );
    }
}

/// Also where it is no expression: the parser goes on after an error.
#[test]
fn whatever_is_repeated_fits_or_is_refused() {
    let words = [
        "a", "in", "true", "null", "1", "1u", "1.5", "'s'", "b's'", "(", ")", "[", "]", "{", "}", ",", ".", "?", ":",
        "!", "-", "+", "*", "<", "==", "&&", "||", "=", "\\", "$", "`", "//x\n",
    ];
    on_a_small_stack(|| {
        for one in words {
            for other in words {
                let text = format!("{one} {other} ").repeat(1_200);
                if let Ok(program) = Program::compile(&text) {
                    let _ = evaluate(&program, &[]);
                }
            }
        }
    });
}

#[test]
fn a_longer_one_is_refused_before_it_is_parsed() {
    let told = |length: usize| Program::compile(&format!("'{}", "a".repeat(length))).unwrap_err();
    assert!(told(LENGTH).starts_with("the expression is too long"));
    assert!(told(LENGTH - 1).contains("ERROR"), "its column can be told");
}

#[test]
fn what_stands_beside_each_other_is_not_deep() {
    let long = format!("[{}]", "f(a.b.c), ".repeat(10_000));
    assert_eq!(Depth::of(&long), Depth { nested: 2, all: 4 });
    assert_eq!(
        Depth::of("a.b(c.d[0], [1, 2, 3]) && true"),
        Depth::of("a.b(c.d[0], [1]) && true")
    );
    let strings = "'((((' + r\"[[\\\" + b'{' // (((("; // none of these brackets is one
    assert_eq!(Depth::of(strings), Depth { nested: 0, all: 2 });
    assert_eq!(Depth::of("'''((' (( ''' + \"\"\"((\"\"\""), Depth { nested: 0, all: 1 });
}

#[test]
fn a_string_hides_no_brackets_behind_it() {
    for before in [
        r"'\\'",
        r"r'\'",
        r#"R"\""#,
        "'''a'b'''",
        "\"'\"",
        "'\n",
        "// '\n",
        r"br'\'",
        r"b'\\'",
        "in'x'",
    ] {
        let text = format!("{before}{}", "(".repeat(2000));
        assert!(!Depth::of(&text).is_allowed(), "{before}");
    }
}

proptest! {
    #[test]
    fn closing_brackets_take_nothing_away_that_was_not_opened(text in "[()\\[\\].,a+?' ]{0,60}") {
        let (before, after) = (Depth::of(&text), Depth::of(&format!("){text}")));
        prop_assert_eq!(after.max(before), after);
    }
}

#[test]
fn what_counts_has_the_same_value() {
    let list: Value = (0..5_i64).map(Value::Int).collect::<Vec<_>>().into();
    let variables = [("l", list), ("s", Value::from("aXbX"))];
    for text in [
        "l.all(x, x >= 0) && l.exists(x, x == 3) && l.exists_one(x, x == 4)",
        "l.map(x, x * 2) == [0, 2, 4, 6, 8] && l.filter(x, x > 2) == [3, 4] && l.map(x, x > 2, x + 1) == [4, 5]",
        "size(l) == 5 && l.size() == 5 && s.size() == 4 && 3 in l && !(7 in l) && l[1] == 1 && -l[2] == -2",
        "s.replace('X', 'y') == 'ayby' && s.matches('^[aXb]+$') && !s.matches('z') && s.contains('X') && s + 'c' == 'aXbXc'",
        "math.least([3, 1, 2]) == 1 && sets.contains([1, 2], [1]) && lists.range(3) == [0, 1, 2] && 'a%d'.format([1]) == 'a1'",
        "{'a': {'b': 1}}.a.b == 1 && has({'a': 1}.a) && !has({'a': 1}.b) && {'k': s}.k == s",
        "l.all(ip, ip.string() != '') && (false ? l.missing : true) && dyn(l) == l && ['x', 'y'].join('-') == 'x-y'",
        "l == [] || [[1], [2]].all(a, a.all(b, b > 0)) || false",
    ] {
        assert_eq!(value(text, &variables), Ok(Value::Bool(true)), "{text}");
    }
    let told = |text: &str| value(text, &variables).unwrap_err().to_string();
    assert_eq!(told("missing.a.b"), "Undeclared reference to 'missing'");
    assert_eq!(told("{'a': 1}.b"), "No such key: b");
    assert!(told("s.replace(1)").contains("replace"), "{}", told("s.replace(1)"));
}

#[test]
fn what_costs_too_much_ends() {
    let list: Value = (0..2_000_i64).map(Value::Int).collect::<Vec<_>>().into();
    let text = Value::from("a".repeat(100_000));
    let map = |of: Value| {
        let entries = [("inner".into(), of)].into_iter().collect();
        Value::Map(kube_cel::cel::objects::Map { map: Arc::new(entries) })
    };
    let deep = map(map(list.clone()));
    let variables = [("l", list), ("s", text), ("m", deep)];
    let doubled = |of: &str, n: usize| (0..n).fold(of.to_owned(), |inner, _| format!("[{inner}].map(x, x + x)[0]"));
    for text in [
        "l.all(a, l.all(b, l.all(c, a + b + c >= 0)))".to_owned(),
        "l.exists(a, l.exists(b, l.exists(c, a + b + c < 0))) || true".to_owned(),
        "l.all(a, m.inner.inner.all(b, true))".to_owned(),
        "l.all(a, m.inner.inner != [])".to_owned(),
        "l.all(a, has(m.inner.inner.x) || true)".to_owned(),
        "l.all(a, size(l) > 0)".to_owned(),
        "l.all(a, s.contains('b') || true)".to_owned(),
        "l.all(a, s.matches('b') || true)".to_owned(),
        "l.map(a, l)".to_owned(),
        "lists.range(1000000000)".to_owned(),
        "'%.1000000000f'.format([1.0])".to_owned(),
        "s.replace('a', s)".to_owned(),
        "sets.contains(l.map(x, x), l.map(x, x))".to_owned(),
        doubled("s", 20),
        doubled("l", 20),
        "[1,2,3,4,5,6,7,8,9].all(a, [1,2,3,4,5,6,7,8,9].all(b, [1,2,3,4,5,6,7,8,9].all(c,          [1,2,3,4,5,6,7,8,9].all(d, [1,2,3,4,5,6,7,8,9].all(e, [1,2,3,4,5,6,7,8,9].all(f, a + b + c > 0))))))"
            .to_owned(),
    ] {
        assert_eq!(value(&text, &variables), Err(Failure::Cost), "{text}");
    }
    assert_eq!(
        Failure::Cost.to_string(),
        "operation cancelled: actual cost limit exceeded"
    );
}

#[test]
fn all_expressions_about_an_object_have_a_budget() {
    let list: Value = (0..300_i64).map(Value::Int).collect::<Vec<_>>().into();
    let cost = Arc::new(Cost::default());
    let mut context = context(&cost);
    context.add_variable_from_value("l", list);
    let program = Program::compile("l.all(a, l.exists(b, b == a))").unwrap();
    let outcomes: Vec<_> = (0..60).map(|_| program.execute(&context, &cost)).collect();
    assert_eq!(outcomes.first(), Some(&Ok(Value::Bool(true))));
    assert_eq!(outcomes.last(), Some(&Err(Failure::Budget)));
}

#[test]
fn errors_do_not_show_large_values() {
    let text = Value::from("a".repeat(100_000));
    let told = value("s < 1 || s - 1 == s", &[("s", text)]).unwrap_err().to_string();
    assert!(told.len() <= TOLD, "{}", told.len());
}
