//! Paths and query parameters of requests.

use super::answer::Refusal;

/// Query parameters, decoded, in order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(uri: &http::Uri) -> Self {
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        };
        Self(
            uri.query()
                .unwrap_or_default()
                .split('&')
                .filter(|part| !part.is_empty())
                .map(pair)
                .collect(),
        )
    }

    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, key: &str) -> Vec<String> {
        self.0
            .iter()
            .filter(|(known, _)| known == key)
            .map(|(_, value)| value.clone())
            .collect()
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "true" | "True"))
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<i64>, Refusal> {
        let bad = |text| Refusal::bad_request(format!("{key}: {text:?} is not a number"));
        self.get(key)
            .map(|text| text.parse().map_err(|_| bad(text)))
            .transpose()
    }
}

pub(super) fn decode(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                if let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) {
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
