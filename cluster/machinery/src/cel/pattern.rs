//! Regular expressions of strangers, of schemas and CEL: read as Go's `regexp` reads them (RE2), as Kubernetes has them, and bounded. A few
//! letters of an expression may become megabytes when it is compiled, so what is compiled has a limit, and only so many are kept.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use regex::{Regex, RegexBuilder};

/// Bytes that a compiled expression may have: enough for a thousand signs of any kind, the most that Go repeats.
const BYTES: usize = 2 << 20;
/// Bytes that each thread may keep of what it finds out about one while it looks for it.
const FOUND_BYTES: usize = 64 << 10;
/// Expressions that are kept compiled.
const KEPT: usize = 16;

/// Expressions that were compiled lately, by their text, each with the number of its last use. Only what it saves is time.
struct Kept {
    all: BTreeMap<String, (u64, Regex)>,
    uses: u64,
}

static KEPT_LATELY: Mutex<Kept> = Mutex::new(Kept {
    all: BTreeMap::new(),
    uses: 0,
});

impl Kept {
    fn find(&mut self, pattern: &str) -> Option<Regex> {
        self.uses += 1;
        let (used, regex) = self.all.get_mut(pattern)?;
        *used = self.uses;
        Some(regex.clone())
    }

    fn keep(&mut self, pattern: &str, regex: &Regex) {
        if self.all.len() >= KEPT {
            let oldest = self.all.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(pattern, _)| pattern.clone()) {
                self.all.remove(&oldest);
            }
        }
        self.all.insert(pattern.to_owned(), (self.uses, regex.clone()));
    }
}

/// Whether `text` has a match of `pattern`.
///
/// # Errors
/// What is wrong with the pattern.
pub(crate) fn matches(pattern: &str, text: &str) -> Result<bool, String> {
    let kept = || KEPT_LATELY.lock().unwrap_or_else(PoisonError::into_inner);
    let known = kept().find(pattern);
    if let Some(regex) = known {
        return Ok(regex.is_match(text));
    }
    let regex = compile(pattern)?;
    kept().keep(pattern, &regex);
    Ok(regex.is_match(text))
}

/// A pattern that may be kept.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let mut builder = RegexBuilder::new(&translated(pattern));
    builder.size_limit(BYTES).dfa_size_limit(FOUND_BYTES);
    builder.build().map_err(|error| error.to_string())
}

/// The same in the words of the regex crate: there `\w` is every letter of Unicode, and within brackets stand more signs for something.
fn translated(pattern: &str) -> Cow<'_, str> {
    if !pattern.contains(['\\', '[']) {
        return Cow::Borrowed(pattern);
    }
    let mut out = String::with_capacity(pattern.len() + 16);
    let (mut rest, mut class) = (pattern.chars().peekable(), false);
    while let Some(sign) = rest.next() {
        match sign {
            '\\' => match rest.next() {
                Some('d') => out.push_str("[0-9]"),
                Some('D') => out.push_str("[^0-9]"),
                Some('w') => out.push_str("[0-9A-Za-z_]"),
                Some('W') => out.push_str("[^0-9A-Za-z_]"),
                Some('s') => out.push_str("[\\t\\n\\f\\r ]"),
                Some('S') => out.push_str("[^\\t\\n\\f\\r ]"),
                Some(bound @ ('b' | 'B')) if !class => {
                    out.push_str("(?-u:\\");
                    out.push(bound);
                    out.push(')');
                }
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            '[' if class && rest.peek() == Some(&':') => {
                // [:alpha:], up to its own bracket.
                out.push('[');
                for sign in rest.by_ref() {
                    out.push(sign);
                    if sign == ']' {
                        break;
                    }
                }
            }
            '[' if class => out.push_str("\\["),
            '&' | '~' if class => out.extend(['\\', sign]),
            '[' => {
                class = true;
                out.push('[');
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // The first bracket within brackets is one of what they hold.
                if rest.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ']' => {
                class = false;
                out.push(']');
            }
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        for (pattern, text, found) in [
            (r"^\w+$", "aZ_9", true),
            (r"^\w+$", "ä", false),
            (r"^[\w.-]+$", "a.b-c", true),
            (r"^[^\d]$", "٣", true),
            (r"^[[:alpha:][]+$", "a[b", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[]a]+$", "a]", true),
            (r"^[^]a]+$", "b", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^\[a\]$", "[a]", true),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "a-b", true),
            (
                r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE])?$",
                "1.5Gi",
                true,
            ),
        ] {
            assert_eq!(matches(pattern, text), Ok(found), "{pattern} {text}");
        }
    }

    #[test]
    fn what_is_large_when_compiled_is_refused() {
        for pattern in [r"\pL{1000}", "((a{100}){100}){100}"] {
            let told = compile(pattern).unwrap_err();
            assert!(told.contains("exceeds size limit"), "{pattern}: {told}");
        }
        // As long as they are in the wild.
        for pattern in [
            r"^\w{1,253}$",
            r"^[a-z0-9]{1,63}(\.[a-z0-9]{1,63}){0,3}$",
            "^.{1,1000}$",
        ] {
            assert_eq!(compile(pattern).map(drop), Ok(()), "{pattern}");
        }
    }

    #[test]
    fn only_so_many_are_kept() {
        for n in 0..KEPT * 3 {
            matches(&format!("^a{{{n}}}$"), "a").unwrap();
        }
        assert!(KEPT_LATELY.lock().unwrap().all.len() <= KEPT);
    }
}
