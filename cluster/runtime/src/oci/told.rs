//! What libcontainer says in its log, in words: events and statuses are read by people who have not its source. Pure.

/// Fields of a line that name the cause.
const CAUSES: [&str; 4] = ["err", "error", "errno", "e"];
/// Fields of a line that name what it is about.
const PLACES: [&str; 6] = ["path", "target", "mount", "rootfs", "source", "newroot"];

/// A line without Rust's notation: of a structure there is what it is about or says, of a field its value if it tells why or where.
pub(super) fn readable(line: &str) -> String {
    let (message, fields) = split(line);
    let mut text = plain(message).trim().to_owned();
    for (name, value) in &fields {
        if PLACES.contains(name) {
            text = format!("{text} {}", plain(value).trim_matches('"'));
        }
    }
    for (name, value) in &fields {
        let cause = plain(value);
        if CAUSES.contains(name) && !text.contains(cause.as_str()) {
            text = format!("{text}: {}", cause.trim_matches('"'));
        }
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The message of a line, and its fields, `name=value`, which come after it.
fn split(line: &str) -> (&str, Vec<(&str, &str)>) {
    let mut starts = Vec::new();
    let mut nesting = Nesting::default();
    for (at, letter) in line.char_indices() {
        if letter == ' ' && nesting.is_outside() {
            let rest = &line[at + 1..];
            let name = rest
                .find(|letter: char| !letter.is_ascii_lowercase() && letter != '_')
                .unwrap_or(0);
            if name > 0 && rest[name..].starts_with('=') {
                starts.push((at, name));
            }
        }
        nesting.take(letter);
    }
    let message = &line[..starts.first().map_or(line.len(), |(at, _)| *at)];
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([line.len()]);
    let field = |((at, name), end): (&(usize, usize), usize)| (&line[at + 1..at + 1 + name], &line[at + name + 2..end]);
    (message, starts.iter().zip(ends).map(field).collect())
}

/// Where in Rust's notation a reader is.
#[derive(Default)]
struct Nesting {
    depth: usize,
    quoted: bool,
    escaped: bool,
}

impl Nesting {
    fn is_outside(&self) -> bool {
        self.depth == 0 && !self.quoted
    }

    fn take(&mut self, letter: char) {
        match letter {
            _ if self.escaped => self.escaped = false,
            '\\' if self.quoted => self.escaped = true,
            '"' => self.quoted = !self.quoted,
            '(' | '{' | '[' if !self.quoted => self.depth += 1,
            ')' | '}' | ']' if !self.quoted => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// The text with each `Name { … }` and `Name(…)` put into words.
fn plain(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(letter) = rest.chars().next() {
        let starts = letter.is_ascii_uppercase() && !out.ends_with(|before: char| before.is_alphanumeric());
        let length = rest
            .find(|letter: char| !letter.is_alphanumeric())
            .unwrap_or(rest.len());
        let after = &rest[length..];
        let body = after
            .strip_prefix(' ')
            .filter(|after| after.starts_with('{'))
            .unwrap_or(after);
        if starts && let Some(end) = whole(body) {
            out.push_str(&words(&rest[..length], &body[..end]));
            rest = &body[end..];
        } else {
            let step = if starts { length } else { letter.len_utf8() };
            out.push_str(&rest[..step]);
            rest = &rest[step..];
        }
    }
    out
}

/// How long what is in brackets at the start is. None: there is none, or it has no end.
fn whole(text: &str) -> Option<usize> {
    if !text.starts_with(['(', '{']) {
        return None;
    }
    let mut nesting = Nesting::default();
    text.char_indices().find_map(|(at, letter)| {
        nesting.take(letter);
        nesting.is_outside().then_some(at + letter.len_utf8())
    })
}

/// What a structure is about: the message of an error, the place of a mount, what is inside, or its name.
fn words(name: &str, body: &str) -> String {
    if let Some(told) = ["message: \"", "destination: \""]
        .iter()
        .find_map(|field| quoted(body, field))
    {
        return told;
    }
    let inner = &body[1..body.len() - 1];
    if body.starts_with('(') && !inner.is_empty() {
        return plain(inner).trim_matches('"').to_owned();
    }
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// The text in quotes after `field`, which ends with the first of them.
fn quoted(body: &str, field: &str) -> Option<String> {
    let start = body.find(field)? + field.len();
    let mut out = String::new();
    let mut letters = body[start..].chars();
    loop {
        match letters.next()? {
            '"' => return Some(out),
            '\\' => out.extend(letters.next()),
            letter => out.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_become_words() {
        for (line, expected) in [
            (
                "executable '/x' not found in $PATH",
                "executable '/x' not found in $PATH",
            ),
            (
                r#"failed to mount Mount { destination: "/data", typ: Some("bind"), source: Some("/run/x"), options: None }: syscall"#,
                "failed to mount /data: syscall",
            ),
            (
                r#"failed to prepare rootfs err=Io(Os { code: 2, kind: NotFound, message: "No such file or directory" })"#,
                "failed to prepare rootfs: No such file or directory",
            ),
            (
                r#"failed to set readonly path err=Syscall(Nix(EPERM)) path="/proc/bus""#,
                "failed to set readonly path /proc/bus: EPERM",
            ),
            (
                "failed to set groups err=InvalidArgument groups=[Gid(1), Gid(2)]",
                "failed to set groups: InvalidArgument",
            ),
            (r#"io: Custom { kind: Other, error: "it is \"bad\"" }"#, "io: custom"),
            ("open (read only) Failed { half", "open (read only) Failed { half"),
            ("two\nlines  and\ttabs", "two lines and tabs"),
            ("a=b and url=x", "a=b and"),
            ("", ""),
        ] {
            assert_eq!(readable(line), expected);
        }
    }
}
