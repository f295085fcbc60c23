//! What a crate's modules take from each other, read from their source: a lexer and a few rules about names, no compiler.
//!
//! A name belongs to the file that defines it, also where a parent hands it on (`pub use`), so that a facade ties nothing
//! together: `mod child;` and `pub use child::Name;` are no arrows of their own, but a parent that works with what it hands on has
//! one. Code below `#[cfg(test)]` does not count. What macros define is not seen; a path into a module that leads to nothing seen is
//! taken to end in that module's file. Methods are not seen either.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module or name, from the crate's root.
type Path = Vec<String>;

/// From file, to file → the names that the first takes from the second.
pub(crate) type Arrows = BTreeMap<(String, String), BTreeSet<String>>;

/// The modules of a crate.
pub(crate) struct Crate {
    modules: BTreeMap<Path, Module>,
}

#[derive(Default)]
struct Module {
    file: String,
    children: BTreeSet<String>,
    defined: BTreeSet<String>,
    uses: Vec<Use>,
    /// `a::b` outside of imports.
    paths: BTreeSet<Path>,
    /// Every name outside of imports, among them the first of each path.
    words: BTreeSet<String>,
    texts: BTreeSet<String>,
}

/// One name of a `use`.
struct Use {
    handed_on: bool,
    path: Path,
    /// What it is called here; `*` for everything.
    name: String,
}

/// Where a name leads.
#[derive(Debug, PartialEq)]
enum Found {
    /// To the file that defines it.
    In(String),
    /// To a module as a whole, or out of the crate.
    Nowhere,
}

impl Crate {
    /// Reads the crate whose root is the file `root`. `sources`: path → text, of this crate at least.
    ///
    /// # Errors
    ///
    /// If a file is missing or is not Rust.
    pub(crate) fn read(root: &str, sources: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut reading = Self {
            modules: BTreeMap::new(),
        };
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        reading.file(Vec::new(), root, folder, sources)?;
        Ok(reading)
    }

    fn file(
        &mut self,
        path: Path,
        file: &str,
        children: &str,
        sources: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let text = sources.get(file).ok_or_else(|| format!("{file}: no such file"))?;
        let tokens: TokenStream = text.parse().map_err(|error| format!("{file}: {error}"))?;
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        self.module(path, file, children, &tokens, sources)
    }

    /// The items of a module. `children` is the folder of its child modules.
    fn module(
        &mut self,
        path: Path,
        file: &str,
        children: &str,
        tokens: &[TokenTree],
        sources: &BTreeMap<String, String>,
    ) -> Result<(), String> {
        let mut module = Module {
            file: file.to_owned(),
            ..Module::default()
        };
        let mut rest = tokens;
        while !rest.is_empty() {
            let item = Item::first(rest);
            rest = &rest[item.length..];
            if item.inner && item.test {
                return Ok(()); // #![cfg(test)]
            }
            if item.test {
                continue;
            }
            let Some((kind, name)) = item.named() else {
                module.collect(item.tokens);
                continue;
            };
            if kind != "mod" {
                module.defined.insert(name);
                module.collect(item.tokens);
                continue;
            }
            let child = [path.clone(), vec![name.clone()]].concat();
            let below = format!("{children}/{name}");
            match item.tokens.last() {
                Some(TokenTree::Group(body)) => {
                    let body: Vec<TokenTree> = body.stream().into_iter().collect();
                    self.module(child, file, &below, &body, sources)?;
                }
                _ if sources.contains_key(&format!("{below}.rs")) => {
                    self.file(child, &format!("{below}.rs"), &below, sources)?;
                }
                _ => self.file(child, &format!("{below}/mod.rs"), &below, sources)?,
            }
            module.children.insert(name);
        }
        self.modules.insert(path, module);
        Ok(())
    }

    /// The texts (string literals, as they are written) of each file.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.modules
            .values()
            .flat_map(|module| module.texts.iter().map(|text| (module.file.as_str(), text.as_str())))
    }

    /// Who takes what from whom.
    pub(crate) fn arrows(&self) -> Arrows {
        let mut arrows = Arrows::new();
        for (at, module) in &self.modules {
            let mut take = |found: Found, name: &str| {
                if let Found::In(file) = found
                    && file != module.file
                {
                    arrows
                        .entry((module.file.clone(), file))
                        .or_default()
                        .insert(name.to_owned());
                }
            };
            for import in &module.uses {
                let Some(path) = self.absolute(at, &import.path, 0) else {
                    continue;
                };
                if import.name == "*" {
                    for word in &module.words {
                        if let Some(found) = self.member(&path, word, 0) {
                            take(found, word);
                        }
                    }
                } else if !import.handed_on || module.words.contains(&import.name) {
                    take(self.definition(&path, 0), &import.name);
                }
            }
            for path in &module.paths {
                if let Some(absolute) = self.absolute(at, path, 0) {
                    take(self.definition(&absolute, 0), &path.join("::"));
                }
            }
        }
        arrows
    }

    /// A path as the module `at` means it, from the root; `None` if it leads out of the crate.
    fn absolute(&self, at: &[String], path: &[String], depth: usize) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let module = self.modules.get(at)?;
        match first.as_str() {
            _ if depth > 20 => None,
            "crate" => Some(rest.to_vec()),
            "self" => Some([at, rest].concat()),
            "super" => {
                let mut up = at.to_vec();
                up.pop()?;
                match rest.first().map(String::as_str) {
                    Some("super") => self.absolute(&up, rest, depth + 1),
                    _ => Some([&up[..], rest].concat()),
                }
            }
            name if module.children.contains(name) || module.defined.contains(name) => Some([at, path].concat()),
            name => {
                let import = |import: &&Use| import.name == name && import.path.first() != Some(first);
                if let Some(import) = module.uses.iter().find(import) {
                    let path = self.absolute(at, &import.path, depth + 1)?;
                    return Some([&path[..], rest].concat());
                }
                // Something that a `use …::*` brings in.
                module.uses.iter().filter(|import| import.name == "*").find_map(|all| {
                    let from = self.absolute(at, &all.path, depth + 1)?;
                    let inside = self.modules.get(&from)?;
                    let known = inside.children.contains(name) || self.member(&from, name, depth + 1).is_some();
                    known.then(|| [&from[..], path].concat())
                })
            }
        }
    }

    /// The file that defines what a path from the root names.
    fn definition(&self, path: &[String], depth: usize) -> Found {
        let mut at = 0;
        while at < path.len() && self.modules.contains_key(&path[..=at]) {
            at += 1;
        }
        let Some(name) = path.get(at) else {
            // A module; what has its name beside it counts for more.
            return match path.split_last() {
                Some((name, parent)) => self.member(parent, name, depth).unwrap_or(Found::Nowhere),
                None => Found::Nowhere,
            };
        };
        let module = &self.modules[&path[..at]];
        if let Some(import) = module.uses.iter().find(|import| import.name == *name)
            && path.len() > at + 1
            && depth <= 20
            && !module.defined.contains(name)
        {
            // It may be a module under another name.
            return match self.absolute(&path[..at], &import.path, depth + 1) {
                Some(target) => self.definition(&[&target[..], &path[at + 1..]].concat(), depth + 1),
                None => Found::Nowhere,
            };
        }
        self.member(&path[..at], name, depth)
            .unwrap_or_else(|| Found::In(module.file.clone()))
    }

    /// What a module has under a name (not child modules), by itself or handed on; `None` if nothing is seen.
    fn member(&self, at: &[String], name: &str, depth: usize) -> Option<Found> {
        let module = self.modules.get(at)?;
        if module.defined.contains(name) {
            return Some(Found::In(module.file.clone()));
        }
        if depth > 20 {
            return None;
        }
        if let Some(import) = module.uses.iter().find(|import| import.name == name) {
            return Some(match self.absolute(at, &import.path, depth + 1) {
                Some(target) => self.definition(&target, depth + 1),
                None => Found::Nowhere,
            });
        }
        module.uses.iter().filter(|import| import.name == "*").find_map(|all| {
            let from = self.absolute(at, &all.path, depth + 1)?;
            self.member(&from, name, depth + 1)
        })
    }
}

/// One item of a module, or one piece of a body that an attribute stands before.
struct Item<'a> {
    /// After its attributes.
    tokens: &'a [TokenTree],
    /// With its attributes.
    length: usize,
    test: bool,
    /// Its attributes are the module's own (`#![…]`), and there is nothing else to it.
    inner: bool,
}

impl<'a> Item<'a> {
    fn first(tokens: &'a [TokenTree]) -> Self {
        let (mut start, mut test) = (0, false);
        loop {
            let inner = is_punct(tokens.get(start + 1), '!');
            match tokens.get(start + 1 + usize::from(inner)) {
                Some(TokenTree::Group(attribute))
                    if is_punct(tokens.get(start), '#') && attribute.delimiter() == Delimiter::Bracket =>
                {
                    test |= only_in_tests(attribute.stream());
                    start += 2 + usize::from(inner);
                    if inner {
                        return Self {
                            tokens: &[],
                            length: start,
                            test,
                            inner: true,
                        };
                    }
                }
                _ => break,
            }
        }
        let tokens = &tokens[start..];
        let to_semicolon = matches!(kind(tokens), Some((_, "use" | "const" | "static" | "type" | "let")));
        let end = tokens.iter().position(|token| match token {
            TokenTree::Group(group) => !to_semicolon && group.delimiter() == Delimiter::Brace,
            other => is_punct(Some(other), ';'),
        });
        let tokens = &tokens[..end.map_or(tokens.len(), |end| end + 1)];
        Self {
            tokens,
            length: start + tokens.len(),
            test,
            inner: false,
        }
    }

    /// The kind and name of an item that has one.
    fn named(&self) -> Option<(&'static str, String)> {
        const KINDS: [&str; 10] = [
            "mod",
            "fn",
            "struct",
            "enum",
            "union",
            "trait",
            "type",
            "const",
            "static",
            "macro_rules",
        ];
        let (at, kind) = kind(self.tokens)?;
        let kind = KINDS.into_iter().find(|known| *known == kind)?;
        self.tokens[at + 1..].iter().find_map(|token| match token {
            TokenTree::Ident(name) if name != "mut" => Some((kind, name.to_string())),
            _ => None,
        })
    }
}

/// The word that says what an item is, after `pub`, `async` and the like, and its place.
fn kind(tokens: &[TokenTree]) -> Option<(usize, &'static str)> {
    const KINDS: [&str; 14] = [
        "mod",
        "fn",
        "struct",
        "enum",
        "union",
        "trait",
        "type",
        "const",
        "static",
        "macro_rules",
        "use",
        "impl",
        "let",
        "extern",
    ];
    let is_function = tokens.iter().take(10).any(|token| is_word(Some(token), "fn"));
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) if ["pub", "unsafe", "async", "default"].iter().any(|w| word == w) => {}
            TokenTree::Ident(word) if is_function && (word == "const" || word == "extern") => {
                // `const fn`, but not `const X: fn() = …`.
                let next = tokens.get(at + 1);
                if matches!(next, Some(TokenTree::Ident(next)) if !["fn", "unsafe", "async", "extern"].iter().any(|w| next == w))
                {
                    return Some((at, "const"));
                }
            }
            TokenTree::Ident(word) => return KINDS.into_iter().find(|kind| word == kind).map(|kind| (at, kind)),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Parenthesis && at > 0 => {} // pub(crate)
            TokenTree::Literal(_) if at > 0 => {}                                                  // extern "C"
            _ => return None,
        }
    }
    None
}

impl Module {
    /// The imports, paths, words and texts of an item.
    fn collect(&mut self, tokens: &[TokenTree]) {
        let handed_on = is_word(tokens.first(), "pub");
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let item = Item::first(&tokens[at..]);
                    if item.test {
                        // A field or an arm of a `match` ends at a comma.
                        let comma = item.tokens.iter().position(|token| is_punct(Some(token), ','));
                        let skipped = comma.map_or(item.tokens.len(), |comma| comma + 1);
                        at += item.length - item.tokens.len() + skipped;
                        continue;
                    }
                    at += 1;
                }
                TokenTree::Punct(punct) if punct.as_char() == '\'' => at += 2, // a lifetime
                TokenTree::Ident(word) if word == "use" => {
                    let end = tokens[at..].iter().position(|token| is_punct(Some(token), ';'));
                    let end = end.map_or(tokens.len(), |end| at + end);
                    self.import(handed_on, &[], &tokens[at + 1..end]);
                    at = end;
                }
                TokenTree::Ident(_) => {
                    let path = path_at(&tokens[at..]);
                    let member = at > 0 && (is_punct(tokens.get(at - 1), '.') || ends_in_colons(&tokens[..at]));
                    at += path.len() * 3 - 2;
                    if !member {
                        self.words.insert(path[0].clone());
                        if path.len() > 1 {
                            self.paths.insert(path);
                        }
                    }
                }
                TokenTree::Group(group) => {
                    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                    self.collect(&inside);
                    at += 1;
                }
                TokenTree::Literal(literal) => {
                    self.texts.insert(literal.to_string());
                    at += 1;
                }
                TokenTree::Punct(_) => at += 1,
            }
        }
    }

    /// What a `use` names, below `prefix`.
    fn import(&mut self, handed_on: bool, prefix: &[String], tokens: &[TokenTree]) {
        let mut path = prefix.to_vec();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Ident(word) if word == "as" => break,
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => at += 1,
                TokenTree::Ident(word) => {
                    path.push(word.to_string());
                    at += 1;
                }
                TokenTree::Group(group) => {
                    let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                    for part in inside.split(|token| is_punct(Some(token), ',')) {
                        if !part.is_empty() {
                            self.import(handed_on, &path, part);
                        }
                    }
                    return;
                }
                TokenTree::Punct(punct) if punct.as_char() == '*' => {
                    path.push("*".to_owned());
                    break;
                }
                _ => at += 1,
            }
        }
        let last = path.last().cloned().unwrap_or_default();
        let name = match tokens.get(at + 1) {
            Some(TokenTree::Ident(name)) if is_word(tokens.get(at), "as") => name.to_string(),
            _ => last.clone(),
        };
        if last == "*" {
            path.pop();
        }
        self.uses.push(Use { handed_on, path, name });
    }
}

/// The path that begins here: `a`, or `a::b::c`.
fn path_at(tokens: &[TokenTree]) -> Path {
    let mut path = Vec::new();
    for step in tokens.chunks(3) {
        let Some(TokenTree::Ident(word)) = step.first() else {
            break;
        };
        path.push(word.to_string());
        if !(is_punct(step.get(1), ':') && is_punct(step.get(2), ':')) {
            break;
        }
    }
    path
}

fn ends_in_colons(tokens: &[TokenTree]) -> bool {
    matches!(tokens, [.., a, b] if is_punct(Some(a), ':') && is_punct(Some(b), ':'))
}

/// Whether an attribute leaves code to tests: `cfg(test)`, also within `any` or `all`.
fn only_in_tests(attribute: TokenStream) -> bool {
    let mut tokens = attribute.into_iter();
    match (tokens.next(), tokens.next()) {
        (Some(name), Some(TokenTree::Group(condition))) => {
            is_word(Some(&name), "cfg") && asks_for_test(condition.stream())
        }
        _ => false,
    }
}

fn asks_for_test(condition: TokenStream) -> bool {
    let mut negated = false;
    for token in condition {
        match &token {
            TokenTree::Ident(word) if word == "test" => return true,
            TokenTree::Group(group) if !negated && asks_for_test(group.stream()) => return true,
            _ => negated = is_word(Some(&token), "not"),
        }
    }
    false
}

fn is_punct(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

fn is_word(token: Option<&TokenTree>, word: &str) -> bool {
    matches!(token, Some(TokenTree::Ident(ident)) if ident == word)
}
