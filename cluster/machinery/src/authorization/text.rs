//! Texts as Go writes them: clients match on messages.

pub use afloat_words::quoted::quoted;

/// Several errors in one sentence, each once, as Kubernetes writes them.
pub fn joined(errors: &[String]) -> String {
    let mut unique: Vec<&str> = Vec::new();
    for error in errors {
        if !unique.contains(&error.as_str()) {
            unique.push(error);
        }
    }
    match unique.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// A list of texts, as Go's `%q` writes it.
pub(crate) fn quoted_list(texts: &[String]) -> String {
    let all: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", all.join(" "))
}
