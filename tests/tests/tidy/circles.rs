//! No file of a crate takes names from a file that takes names from it, by whatever way round.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::{Arrows, Crate};
use crate::tree::{crates, sources};

/// The files that reach each other, each circle in order.
fn circles(arrows: &Arrows) -> Vec<BTreeSet<&str>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (from, to) in arrows.keys() {
        next.entry(from).or_default().push(to);
    }
    let reached = |from: &str| {
        let mut seen = BTreeSet::new();
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for to in next.get(at).into_iter().flatten() {
                if seen.insert(*to) {
                    open.push(to);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = next.keys().map(|file| (*file, reached(file))).collect();
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for (file, ahead) in &reach {
        if ahead.contains(file) && !found.iter().any(|circle| circle.contains(file)) {
            let back = |other: &&&str| reach.get(**other).is_some_and(|theirs| theirs.contains(file));
            found.push(ahead.iter().filter(back).copied().collect());
        }
    }
    found
}

/// Each circle, with what ties it.
fn complaints(arrows: &Arrows) -> Vec<String> {
    let mut complaints = Vec::new();
    for circle in circles(arrows) {
        let mut lines = vec!["files that take names from each other, round in a circle:".to_owned()];
        for ((from, to), names) in arrows {
            if circle.contains(from.as_str()) && circle.contains(to.as_str()) {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                lines.push(format!("    {from} -> {to}: {}", names.join(", ")));
            }
        }
        complaints.push(lines.join("\n"));
    }
    complaints
}

#[test]
fn modules_take_names_one_way_only() {
    let sources = sources();
    let mut arrows = Arrows::new();
    for root in crates(&sources) {
        arrows.extend(Crate::read(&root, &sources).expect("a crate that compiles").arrows());
    }
    assert!(arrows.len() > 300, "the imports are not read: {} arrows", arrows.len());
    let complaints = complaints(&arrows);
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The arrows of a planted crate, as `from -> to: names`.
fn arrows(files: &[(&str, &str)]) -> Vec<String> {
    planted(files)
        .into_iter()
        .map(|((from, to), names)| format!("{from} -> {to}: {}", names.into_iter().collect::<Vec<_>>().join(" ")))
        .collect()
}

fn planted(files: &[(&str, &str)]) -> Arrows {
    let sources = files.iter().map(|(f, text)| ((*f).to_owned(), (*text).to_owned()));
    Crate::read("src/lib.rs", &sources.collect()).expect("Rust").arrows()
}

#[test]
fn every_way_to_name_something_is_an_arrow() {
    let there = "pub fn f() {} pub struct S; impl S { pub fn new() {} } pub enum E { V } pub const C: u8 = 1;";
    let declared = "mod a; mod b;";
    for (code, names) in [
        ("use crate::b::S;", "S"),
        ("use super::b::S;", "S"),
        ("use crate::{b::{self, S, C}};", "C S"),
        ("use crate::b::S as T;", "T"),
        ("use crate::b::E::*;", "*"),
        ("fn g() { crate::b::f() }", "crate::b::f"),
        ("fn g() { super::b::S::new() }", "super::b::S::new"),
        ("use crate::b; fn g() { println!(\"{}\", b::C) }", "b::C"),
        ("use crate::b as x; fn g() -> Vec<x::S> { x::f() }", "x::S x::f"),
        ("fn g() { use crate::b::f; f() }", "f"),
        ("use crate::b::*; fn g(s: S) {}", "S"),
        ("mod inner { fn g() { super::super::b::f() } }", "super::super::b::f"),
        ("macro_rules! m { () => { $crate::b::f() } }", "crate::b::f"),
    ] {
        let found = arrows(&[("src/lib.rs", declared), ("src/a.rs", code), ("src/b.rs", there)]);
        let expected = match names {
            "*" => vec![], // which variants they are is not seen
            names => vec![format!("src/a.rs -> src/b.rs: {names}")],
        };
        assert_eq!(found, expected, "{code}");
    }
}

#[test]
fn what_is_not_our_code_is_no_arrow() {
    for code in [
        "",
        "use std::b::S; use b::S as T;",
        "use crate::b;",
        "#[cfg(test)] mod tests { use crate::b::S; }",
        "#[cfg(test)] use crate::b::S;",
        "#[cfg(all(test, unix))] fn g() { crate::b::f() }",
        "impl A { #[cfg(test)] fn g() { crate::b::f() } fn h() {} }",
        "fn g() { match x { #[cfg(test)] crate::b::C => 1, _ => 2 } }",
        "// use crate::b::S;\nfn g() { \"crate::b::f()\"; /* crate::b::f() */ 'c'; r#\"crate::b::f()\"# }",
    ] {
        let found = arrows(&[
            ("src/lib.rs", "mod a; mod b;"),
            ("src/a.rs", code),
            ("src/b.rs", "pub struct S;"),
        ]);
        assert_eq!(found, Vec::<String>::new(), "{code}");
    }
    let not_only_tests = "#[cfg(not(test))] use crate::b::S;";
    let found = arrows(&[
        ("src/lib.rs", "mod a; mod b;"),
        ("src/a.rs", not_only_tests),
        ("src/b.rs", "pub struct S;"),
    ]);
    assert_eq!(found, ["src/a.rs -> src/b.rs: S"]);
}

#[test]
fn a_name_belongs_to_the_file_that_defines_it() {
    let found = arrows(&[
        ("src/lib.rs", "mod a; mod b; pub use b::S; pub use b::deep::*;"),
        (
            "src/a.rs",
            "use crate::{S, D}; use crate::b::Other; use super::b::macro_made;",
        ),
        (
            "src/b.rs",
            "pub mod deep; pub use self::deep::D as Other; pub struct S; make!();",
        ),
        ("src/b/deep.rs", "pub struct D;"),
    ]);
    assert_eq!(
        found,
        [
            "src/a.rs -> src/b.rs: S macro_made",
            "src/a.rs -> src/b/deep.rs: D Other"
        ],
        "the facade is nobody's arrow"
    );
}

#[test]
fn a_parent_that_works_with_its_child_may_not_be_used_by_it() {
    let child = ("src/b.rs", "use super::Shared; pub struct S;");
    let facade = planted(&[("src/lib.rs", "mod b; pub use b::S; pub struct Shared;"), child]);
    assert!(complaints(&facade).is_empty(), "handing on is no work");
    let works = planted(&[
        ("src/lib.rs", "mod b; pub use b::S; pub struct Shared; fn f(_: S) {}"),
        child,
    ]);
    assert_eq!(circles(&works), [BTreeSet::from(["src/b.rs", "src/lib.rs"])]);
    let inline = planted(&[("src/lib.rs", "mod b; pub struct Shared; fn f(_: b::S) {}"), child]);
    assert_eq!(circles(&inline), [BTreeSet::from(["src/b.rs", "src/lib.rs"])]);
}

#[test]
fn a_circle_is_told_with_what_ties_it() {
    let tied = planted(&[
        ("src/lib.rs", "mod a; mod b; mod c; mod d;"),
        ("src/a.rs", "use crate::b::B; pub struct A;"),
        ("src/b.rs", "use crate::c::C; pub struct B;"),
        ("src/c.rs", "use crate::a::A; pub struct C;"),
        ("src/d.rs", "use crate::a::A; pub struct D;"),
    ]);
    let found = complaints(&tied);
    assert_eq!(found.len(), 1);
    assert!(
        found[0].contains("src/c.rs -> src/a.rs: A") && !found[0].contains("src/d.rs"),
        "{}",
        found[0]
    );
}
