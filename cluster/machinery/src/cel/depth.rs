//! How deep an expression is, from its text alone. An upper bound: what is no code (strings, comments) does not count, all else that
//! may nest does.

/// How deep an expression is at its deepest places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Depth {
    /// Expressions within expressions: brackets and branches.
    pub(crate) nested: usize,
    /// All that the tree is deep: those, and the links of the chains that lead there.
    pub(crate) all: usize,
}

impl Depth {
    /// The deeper of both, each by itself.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            nested: self.nested.max(other.nested),
            all: self.all.max(other.all),
        }
    }

    /// Of `text`.
    pub(crate) fn of(text: &str) -> Self {
        let mut rest = text.as_bytes();
        let mut open = Open::default();
        let mut deepest = Self::default();
        while let Some((&byte, after)) = rest.split_first() {
            rest = match byte {
                b'"' | b'\'' => after_string(rest, false),
                b'/' if after.first() == Some(&b'/') => after_line(rest),
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                    let behind = after_word(rest);
                    if &rest[..rest.len() - behind.len()] == b"in" {
                        open.link(false);
                    }
                    behind
                }
                b'(' | b'[' | b'{' => {
                    open.bracket();
                    after
                }
                b')' | b']' | b'}' => {
                    open.close();
                    after
                }
                b',' => {
                    open.next();
                    after
                }
                b'.' | b'+' | b'-' | b'*' | b'/' | b'%' | b'!' | b'<' | b'>' | b'=' | b'?' | b':' | b'&' | b'|' => {
                    open.link(byte == b'?');
                    // Of two signs that are one operator, the second.
                    let second = matches!(byte, b'!' | b'<' | b'>' | b'=' | b'&' | b'|')
                        && matches!(after.first(), Some(b'=' | b'&' | b'|'));
                    if second { &after[1..] } else { after }
                }
                _ => after,
            };
            deepest = deepest.max(open.sum);
        }
        deepest
    }
}

/// The brackets that are open at a place.
#[derive(Default)]
struct Open {
    /// What each of them holds so far, itself included.
    brackets: Vec<Depth>,
    /// All of that, and what stands outside of brackets.
    sum: Depth,
}

impl Open {
    fn bracket(&mut self) {
        self.brackets.push(Depth::default());
        self.add(Depth { nested: 1, all: 1 });
    }

    /// A closed bracket is one link of the chain that it stands in. One that nothing opened is an error, which the parser finds.
    fn close(&mut self) {
        if let Some(inside) = self.brackets.pop() {
            self.take(inside);
        }
        self.add(Depth { nested: 0, all: 1 });
    }

    /// What follows stands beside what was.
    fn next(&mut self) {
        if let Some(inside) = self.brackets.pop() {
            self.take(inside);
            self.bracket();
        }
    }

    fn link(&mut self, branch: bool) {
        self.add(Depth {
            nested: branch.into(),
            all: 1,
        });
    }

    fn add(&mut self, more: Depth) {
        for depth in [self.brackets.last_mut(), Some(&mut self.sum)].into_iter().flatten() {
            depth.nested += more.nested;
            depth.all += more.all;
        }
    }

    fn take(&mut self, inside: Depth) {
        self.sum.nested -= inside.nested;
        self.sum.all -= inside.all;
    }
}

/// What follows the word that `text` begins with: also the string, if the word is its prefix.
fn after_word(text: &[u8]) -> &[u8] {
    let ends = |b: &u8| !(b.is_ascii_alphanumeric() || *b == b'_');
    let (word, behind) = text.split_at(text.iter().position(ends).unwrap_or(text.len()));
    let raw = match word.to_ascii_lowercase().as_slice() {
        b"b" => false,
        b"r" | b"rb" | b"br" => true,
        _ => return behind,
    };
    match behind.first() {
        Some(b'"' | b'\'') => after_string(behind, raw),
        _ => behind,
    }
}

fn after_line(text: &[u8]) -> &[u8] {
    let end = text
        .iter()
        .position(|b| matches!(b, b'\n' | b'\r'))
        .unwrap_or(text.len());
    &text[end..]
}

/// What follows the string that `text` begins with; nothing if it does not end.
fn after_string(text: &[u8], raw: bool) -> &[u8] {
    let three = [text[0]; 3];
    let ends: &[u8] = if text.starts_with(&three) { &three } else { &three[..1] };
    let mut at = ends.len();
    while at < text.len() {
        match text[at] {
            b'\\' if !raw => at += 2,
            _ if text[at..].starts_with(ends) => return &text[at + ends.len()..],
            // A string with one quote ends with its line at the latest; what follows would be code for the parser.
            b'\n' | b'\r' if ends.len() == 1 => return &text[at..],
            _ => at += 1,
        }
    }
    &[]
}
