//! Links in pages of HTML, rewritten as the page passes. Of a page nothing is kept but a tag that has not ended, so that no page is too
//! large and none has to end.
//!
//! Crates that read HTML want the whole of it or a thread to read on, or bring a reader of CSS with them; what is needed here is to tell
//! tags from the rest and to find the values of attributes (HTML, 13.2.5).

use std::ops::Range;

use bytes::Bytes;
use futures::stream;
use http_body_util::BodyExt as _;

use crate::wire::body::{self, Body};

/// A longer tag is passed on as it is.
const TAG_MAX: usize = 16 << 10;

/// Which attributes of which tags are links. Source: upstream's `atomsToAttrs`.
const LINKS: [(&str, &[&str]); 24] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("video", &["poster", "src"]),
];
const SOURCE: (&str, &[&str]) = ("source", &["src"]);

/// Elements in which there are no tags but the one that ends them.
const WITHOUT_TAGS: [&str; 7] = ["script", "style", "textarea", "title", "xmp", "iframe", "noframes"];

/// The page with its links as `rewrite` says; None: a link stays as it is.
pub(super) fn rewritten(page: Body, rewrite: impl Fn(&str) -> Option<String> + Send + 'static) -> Body {
    let state = Some((page, Rewriter::default(), rewrite));
    body::tried(stream::unfold(state, |state| async move {
        let (mut page, mut rewriter, rewrite) = state?;
        loop {
            match page.frame().await {
                Some(Ok(frame)) => {
                    let out = rewriter.push(&frame.into_data().unwrap_or_default(), &rewrite);
                    if !out.is_empty() {
                        return Some((Ok(Bytes::from(out)), Some((page, rewriter, rewrite))));
                    }
                }
                Some(Err(error)) => return Some((Err(error), None)),
                None => return Some((Ok(Bytes::from(rewriter.held)), None)),
            }
        }
    }))
}

/// What the next bytes are part of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Text,
    Comment,
    /// An element without tags, of this name.
    Element(&'static str),
}

#[derive(Debug, Default)]
struct Rewriter {
    inside: Inside,
    /// What is not decided yet.
    held: Vec<u8>,
}

impl Rewriter {
    /// Takes more of the page, gives what is ready of it.
    fn push(&mut self, more: &[u8], rewrite: &impl Fn(&str) -> Option<String>) -> Vec<u8> {
        self.held.extend_from_slice(more);
        let held = std::mem::take(&mut self.held);
        let (mut out, mut at) = (Vec::with_capacity(held.len()), 0);
        while at < held.len() {
            let rest = &held[at..];
            let taken = match self.inside {
                Inside::Text => self.text(rest, &mut out, rewrite),
                Inside::Comment => self.until(rest, b"-->", &mut out),
                Inside::Element(name) => self.until(rest, format!("</{name}").as_bytes(), &mut out),
            };
            if taken == 0 {
                break;
            }
            at += taken;
        }
        self.held = held[at..].to_vec();
        out
    }

    /// Text up to the next tag, or that tag. Gives how many bytes were taken; 0: more is needed.
    fn text(&mut self, rest: &[u8], out: &mut Vec<u8>, rewrite: &impl Fn(&str) -> Option<String>) -> usize {
        let plain = rest.iter().position(|byte| *byte == b'<').unwrap_or(rest.len());
        if plain > 0 {
            out.extend_from_slice(&rest[..plain]);
            return plain;
        }
        const COMMENT: &[u8] = b"<!--";
        if rest.starts_with(COMMENT) {
            self.inside = Inside::Comment;
            // `<!-->` is a whole comment: its end may begin with what it begins with.
            out.extend_from_slice(&rest[..2]);
            return 2;
        }
        if rest.len() < COMMENT.len() && COMMENT.starts_with(rest) {
            return 0;
        }
        if !rest[1].is_ascii_alphabetic() {
            out.push(b'<');
            return 1;
        }
        match Tag::read(rest) {
            Some(tag) => {
                tag.write(rest, out, rewrite);
                let raw = WITHOUT_TAGS.iter().find(|name| **name == tag.name);
                self.inside = raw.map_or(Inside::Text, |name| Inside::Element(name));
                tag.length
            }
            None if rest.len() < TAG_MAX => 0,
            None => {
                out.extend_from_slice(rest);
                rest.len()
            }
        }
    }

    /// Passes on what is there up to `end`, and it.
    fn until(&mut self, rest: &[u8], end: &[u8], out: &mut Vec<u8>) -> usize {
        let found = rest.windows(end.len()).position(|part| part.eq_ignore_ascii_case(end));
        let taken = match found {
            Some(at) => {
                self.inside = Inside::Text;
                at + end.len()
            }
            // The end may have begun.
            None => rest.len().saturating_sub(end.len() - 1),
        };
        out.extend_from_slice(&rest[..taken]);
        taken
    }
}

/// A tag with its attributes: names, and where their values are.
struct Tag {
    name: String,
    attributes: Vec<(String, Range<usize>)>,
    length: usize,
}

impl Tag {
    /// Reads a tag from its `<`. None: it has not ended.
    fn read(bytes: &[u8]) -> Option<Self> {
        let is_space = |byte: u8| byte.is_ascii_whitespace();
        let skip = |from: usize, what: &dyn Fn(u8) -> bool| {
            let length = bytes.get(from..)?.iter().position(|byte| !what(*byte))?;
            Some(from + length)
        };
        let lower = |range: Range<usize>| String::from_utf8_lossy(&bytes[range]).to_ascii_lowercase();
        let mut at = skip(1, &|byte| !is_space(byte) && !matches!(byte, b'/' | b'>'))?;
        let mut tag = Self {
            name: lower(1..at),
            attributes: Vec::new(),
            length: 0,
        };
        loop {
            at = skip(at, &|byte| is_space(byte) || byte == b'/')?;
            if bytes[at] == b'>' {
                tag.length = at + 1;
                return Some(tag);
            }
            // A name may begin with `=`.
            let end = skip(at + 1, &|byte| !is_space(byte) && !matches!(byte, b'/' | b'>' | b'='))?;
            let name = lower(at..end);
            at = skip(end, &is_space)?;
            if bytes[at] != b'=' {
                continue;
            }
            at = skip(at + 1, &is_space)?;
            let value = match bytes[at] {
                quote @ (b'"' | b'\'') => {
                    let end = skip(at + 1, &|byte| byte != quote)?;
                    let value = at + 1..end;
                    at = end + 1;
                    value
                }
                _ => {
                    let end = skip(at, &|byte| !is_space(byte) && byte != b'>')?;
                    let value = at..end;
                    at = end;
                    value
                }
            };
            tag.attributes.push((name, value));
        }
    }

    fn write(&self, bytes: &[u8], out: &mut Vec<u8>, rewrite: &impl Fn(&str) -> Option<String>) {
        let known = LINKS.iter().chain([&SOURCE]).find(|(name, _)| *name == self.name);
        let links = known.map_or(&[][..], |(_, links)| *links);
        let mut written = 0;
        for (name, value) in &self.attributes {
            let text = std::str::from_utf8(&bytes[value.clone()]).ok();
            let link = text.filter(|_| links.contains(&name.as_str()));
            if let Some(link) = link.and_then(|text| rewrite(text.trim())) {
                out.extend_from_slice(&bytes[written..value.start]);
                out.extend_from_slice(link.as_bytes());
                written = value.end;
            }
        }
        out.extend_from_slice(&bytes[written..self.length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page in pieces of so many bytes.
    fn pass(page: &str, piece: usize) -> String {
        let rewrite = |link: &str| link.starts_with('/').then(|| format!("/p{link}"));
        let (mut rewriter, mut out) = (Rewriter::default(), Vec::new());
        for piece in page.as_bytes().chunks(piece) {
            out.extend(rewriter.push(piece, &rewrite));
        }
        out.extend(rewriter.held);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn links_change_and_nothing_else() {
        let cases = [
            (r#"<a href="/x">y</a>"#, r#"<a href="/p/x">y</a>"#),
            ("<A HREF='/x' class=/y>", "<A HREF='/p/x' class=/y>"),
            ("<img src=/x alt=\"a > b\"/>", "<img src=/p/x alt=\"a > b\"/>"),
            ("<a href = \"/x\" href=\"/y\">", "<a href = \"/p/x\" href=\"/p/y\">"),
            (
                "<a href=\"x\"><a href='http://h/x'>",
                "<a href=\"x\"><a href='http://h/x'>",
            ),
            ("<p href=\"/x\">a < b <3 </p>", "<p href=\"/x\">a < b <3 </p>"),
            (
                "<!-- <a href=\"/x\"> --><a href=\"/x\">",
                "<!-- <a href=\"/x\"> --><a href=\"/p/x\">",
            ),
            ("<!--><a href=\"/x\">", "<!--><a href=\"/p/x\">"),
            (
                "<script src=\"/x\">'<a href=\"/y\">'</SCRIPT><a href=\"/z\">",
                "<script src=\"/p/x\">'<a href=\"/y\">'</SCRIPT><a href=\"/p/z\">",
            ),
            (
                "<!DOCTYPE html><video poster=\"/x\" src=\"/y\">",
                "<!DOCTYPE html><video poster=\"/p/x\" src=\"/p/y\">",
            ),
            ("<a href=\"/\u{e4}\">\u{e4}", "<a href=\"/p/\u{e4}\">\u{e4}"),
            ("<a href=\"/never ends", "<a href=\"/never ends"),
            ("<", "<"),
            ("<a =\"/x\" href>", "<a =\"/x\" href>"),
        ];
        for (page, wanted) in cases {
            for piece in [1, 2, 3, 7, 1000] {
                assert_eq!(pass(page, piece), wanted, "{page} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_tag_without_end_is_not_kept() {
        let mut rewriter = Rewriter::default();
        let piece = vec![b'x'; 1 << 10];
        let mut out = rewriter.push(b"<a href=\"/", &|_| None).len();
        for _ in 0..1000 {
            out += rewriter.push(&piece, &|_| None).len();
            assert!(rewriter.held.len() <= TAG_MAX);
        }
        assert!(out + rewriter.held.len() == 10 + 1000 * 1024);
    }
}
