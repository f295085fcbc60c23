//! Depths, and that whatever is as deep as allowed fits.

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
    ]
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
                let _ = (program.execute(&Context::default()), program.uses("authorizer"));
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
