//! Users and passwords out of pull secrets, and which of them an image may use. Pure.
//!
//! The rules are Kubernetes' (kubernetes.io, Images, "Interpretation of config.json"; `credentialprovider/keyring.go`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use k8s_openapi::api::core::v1::Secret;
use serde::Deserialize;

/// The key under which Docker's tools write the default registry.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// A user and a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password, or a token that serves as one.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    /// A password must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// The value of an `Authorization` header.
    pub fn basic(&self) -> String {
        let pair = format!("{}:{}", self.username, self.password);
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }
}

/// Credentials by where they may be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyring {
    /// `HOST[:PORT][/PATH]`; parts of the host may be patterns.
    entries: BTreeMap<String, Vec<Credentials>>,
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
}

impl Keyring {
    /// Adds what a `.dockerconfigjson` (or Docker's `config.json`) holds.
    ///
    /// # Errors
    /// It is not one; nothing was added then.
    pub fn add_config_json(&mut self, bytes: &[u8]) -> Result<(), String> {
        let config: ConfigJson = serde_json::from_slice(bytes).map_err(|e| unread(&e))?;
        self.add(config.auths)
    }

    /// Adds what an old `.dockercfg` holds.
    ///
    /// # Errors
    /// It is not one; nothing was added then.
    pub fn add_dockercfg(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.add(serde_json::from_slice(bytes).map_err(|e| unread(&e))?)
    }

    /// Adds what a pull secret holds, of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`.
    ///
    /// # Errors
    /// It holds neither, or what cannot be read; nothing was added then.
    pub fn add_secret(&mut self, secret: &Secret) -> Result<(), String> {
        let data = |key: &str| secret.data.as_ref()?.get(key).map(|bytes| bytes.0.as_slice());
        match (data(".dockerconfigjson"), data(".dockercfg")) {
            (Some(bytes), _) => self.add_config_json(bytes),
            (None, Some(bytes)) => self.add_dockercfg(bytes),
            (None, None) => Err("it has neither .dockerconfigjson nor .dockercfg".to_owned()),
        }
    }

    fn add(&mut self, auths: BTreeMap<String, Entry>) -> Result<(), String> {
        let mut read = Vec::new();
        for (location, entry) in auths {
            read.push((
                key(&location),
                credentials(entry).map_err(|e| format!("{location}: {e}"))?,
            ));
        }
        for (key, credentials) in read {
            self.entries.entry(key).or_default().extend(credentials);
        }
        Ok(())
    }

    /// What may be tried for a repository (`ghcr.io/team/web`), the most special first. Nothing: ask without.
    pub fn of(&self, repository: &str) -> Vec<Credentials> {
        // Backwards: what is longer comes first.
        let matching = self.entries.iter().rev().filter(|(key, _)| matches(key, repository));
        let found: Vec<_> = matching.flat_map(|(_, credentials)| credentials.clone()).collect();
        if found.is_empty() && repository.starts_with("docker.io/") {
            return self.entries.get(DEFAULT_REGISTRY).cloned().unwrap_or_default();
        }
        found
    }
}

/// Scheme and the version of an API say nothing.
fn key(location: &str) -> String {
    let rest = location
        .strip_prefix("https://")
        .or_else(|| location.strip_prefix("http://"))
        .unwrap_or(location);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = ["v1/", "v2/"]
        .iter()
        .find_map(|version| path.strip_prefix(version))
        .unwrap_or(path);
    let path = path.trim_end_matches('/');
    if path.is_empty() || path == "v1" || path == "v2" {
        host.to_owned()
    } else {
        format!("{host}/{path}")
    }
}

fn credentials(entry: Entry) -> Result<Option<Credentials>, &'static str> {
    if entry.auth.is_empty() {
        let known = !entry.username.is_empty() || !entry.password.is_empty();
        return Ok(known.then_some(Credentials {
            username: entry.username,
            password: entry.password,
        }));
    }
    let bad = "`auth` is not USER:PASSWORD in base64";
    let text = entry.auth.trim();
    let bytes = BASE64_STANDARD
        .decode(text)
        .or_else(|_| BASE64_STANDARD_NO_PAD.decode(text))
        .map_err(|_| bad)?;
    let pair = String::from_utf8(bytes).map_err(|_| bad)?;
    let (username, password) = pair.split_once(':').ok_or(bad)?;
    Ok(Some(Credentials {
        username: username.to_owned(),
        password: password.to_owned(),
    }))
}

/// The host part by part, each a pattern; the same port; and the path a beginning.
fn matches(key: &str, repository: &str) -> bool {
    let split = |text: &str| -> (Vec<String>, Option<String>, String) {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.to_owned())),
            None => (host, None),
        };
        (name.split('.').map(str::to_owned).collect(), port, path.to_owned())
    };
    let ((host, port, path), (wanted, wanted_port, wanted_path)) = (split(key), split(repository));
    host.len() == wanted.len()
        && port == wanted_port
        && wanted_path.starts_with(&path)
        && host
            .iter()
            .zip(&wanted)
            .all(|(pattern, part)| fits(pattern.as_bytes(), part.as_bytes()))
}

/// `*` and `?`, as a shell has them.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            fits(rest, text) || text.split_first().is_some_and(|(_, later)| fits(pattern, later))
        }
        (Some((b'?', rest)), Some((_, later))) => fits(rest, later),
        (Some((a, rest)), Some((b, later))) => a == b && fits(rest, later),
        _ => false,
    }
}

/// Where reading ended. The parser's own words may hold a password.
fn unread(error: &serde_json::Error) -> String {
    format!("it cannot be read (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(json: &str) -> Keyring {
        let mut ring = Keyring::default();
        assert_eq!(ring.add_config_json(json.as_bytes()), Ok(()), "{json}");
        ring
    }

    fn users(ring: &Keyring, repository: &str) -> Vec<String> {
        ring.of(repository).into_iter().map(|c| c.username).collect()
    }

    /// The table of "Interpretation of config.json" and a few more.
    #[test]
    fn locations_match_as_in_kubernetes() {
        for (location, repository, fits) in [
            ("registry.io", "registry.io/a/b", true),
            ("https://registry.io/v2/", "registry.io/a", true),
            ("http://registry.io/v1", "registry.io/a", true),
            ("registry.io/a", "registry.io/a/b", true),
            ("registry.io/a", "registry.io/c", false),
            ("*.registry.io", "x.registry.io/a", true),
            ("*.registry.io", "registry.io/a", false),
            ("*.registry.io", "a.b.registry.io/c", false),
            ("*.*.registry.io", "a.b.registry.io/c", true),
            ("*.registry.io:5000", "x.registry.io/a", false),
            ("registry.io:5000", "registry.io:5000/a", true),
            ("registry.io:5000", "registry.io/a", false),
            ("reg?stry.io", "registry.io/a", true),
            ("https://index.docker.io/v1/", "docker.io/library/web", true),
            ("docker.io", "docker.io/library/web", true),
            ("https://index.docker.io/v1/", "registry.io/web", false),
        ] {
            let ring = ring(&format!(
                r#"{{"auths": {{"{location}": {{"username": "u", "password": "p"}}}}}}"#
            ));
            assert_eq!(users(&ring, repository) == ["u"], fits, "{location} for {repository}");
        }
    }

    #[test]
    fn the_most_special_comes_first_and_auth_counts() {
        let ring = ring(
            r#"{"auths": {"r.io": {"auth": "YTpi"}, "r.io/team": {"auth": "dGVhbTp4Onk=", "username": "old"}, "empty.io": {}}}"#,
        );
        assert_eq!(users(&ring, "r.io/team/web"), ["team", "a"]);
        assert_eq!(ring.of("r.io/team/web")[0].password, "x:y");
        assert_eq!(users(&ring, "r.io/web"), ["a"]);
        assert_eq!(ring.of("r.io/web")[0].basic(), "Basic YTpi");
        assert!(users(&ring, "empty.io/web").is_empty());
        let mut old = Keyring::default();
        assert_eq!(old.add_dockercfg(br#"{"r.io": {"auth": "YTpi"}}"#), Ok(()));
        assert_eq!(users(&old, "r.io/web"), ["a"]);
        assert!(old.add_dockercfg(b"[]").is_err());
        let told = old
            .add_config_json(br#"{"auths": {"x": {"password": ["hunter2"]}}}"#)
            .unwrap_err();
        assert!(!told.contains("hunter2"), "{told}");
        assert!(
            !old.add_config_json(br#"{"auths": "hunter2"}"#)
                .unwrap_err()
                .contains("hunter2")
        );
        assert!(old.add_config_json(br#"{"auths": {"x": {"auth": "%%"}}}"#).is_err());
        assert!(!format!("{ring:?}").contains("x:y"), "passwords are not shown");
    }
}
