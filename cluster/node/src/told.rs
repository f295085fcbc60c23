//! Errors of the API as events and statuses tell them: one sentence, without a library's notation.

/// What the server said, or why it could not be asked.
pub(crate) fn told(error: &kube::Error) -> String {
    match error {
        // The library shows the whole answer after it, as Rust would write it.
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("the API server answers with {}", status.code),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_message() {
        let status = |message: &str| {
            let text = format!(r#"{{"message": "{message}", "reason": "Forbidden", "code": 403}}"#);
            kube::Error::Api(Box::new(serde_json::from_str(&text).unwrap()))
        };
        assert_eq!(
            told(&status("secrets \\\"x\\\" is forbidden")),
            "secrets \"x\" is forbidden"
        );
        assert_eq!(told(&status("")), "the API server answers with 403");
    }
}
