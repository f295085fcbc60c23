//! What commands print as their result.

use std::io::{ErrorKind, Write as _};

/// Prints a result on standard output. A reader that has enough (`| head`) is no error; a full disk is one.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(anyhow::anyhow!("cannot write the result: {error}")),
        _ => Ok(()),
    }
}

/// An error with its causes as one line. Many errors repeat their cause in their own text: said once is enough.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        // The client library shows the whole answer after its message, as Rust would write it, and both again as the cause.
        let told = match cause.downcast_ref::<kube::Error>() {
            Some(kube::Error::Api(status)) => Some(status.message.clone()).filter(|message| !message.is_empty()),
            _ => None,
        };
        let last = told.is_some();
        let cause = told.unwrap_or_else(|| cause.to_string());
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
        if last {
            break;
        }
    }
    line.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error = anyhow::anyhow!("no such file")
            .context("cannot read x: no such file")
            .context("loading");
        assert_eq!(one_line(&error), "loading: cannot read x: no such file");
        let status = serde_json::from_str(r#"{"message": "pods is forbidden", "reason": "Forbidden", "code": 403}"#);
        let error = kube::Error::Api(Box::new(status.unwrap()));
        let error = anyhow::Error::from(error).context("listing pods");
        assert_eq!(one_line(&error), "listing pods: pods is forbidden");
    }
}
