//! Which servers to ask for an image, and how. Pure.

use std::net::IpAddr;
use std::path::PathBuf;

use afloat_words::image::ImageName;

use super::PullError;
use super::tls::trusting;

/// What the user says about registries.
#[derive(Clone, Debug, Default)]
pub struct RegistryOptions {
    /// `HOST[:PORT]` that may be spoken to without TLS.
    pub insecure: Vec<String>,
    /// Certificates (PEM) of authorities to trust beside the system's.
    pub authorities: Vec<PathBuf>,
    /// Servers to ask before the registry itself.
    pub mirrors: Vec<Mirror>,
}

impl RegistryOptions {
    /// Whether the files that it names can be used. Blocks.
    ///
    /// # Errors
    /// The first that cannot.
    pub fn check(&self) -> Result<(), PullError> {
        if self.authorities.is_empty() {
            return Ok(());
        }
        trusting(&self.authorities).map(drop)
    }
}

/// A server that has what a registry has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The registry as images name it, for example `docker.io`.
    pub registry: String,
    /// Where to ask.
    pub server: Server,
}

impl Mirror {
    /// Reads `docker.io=http://localhost:5000`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (registry, url) = text.split_once('=').ok_or("needs the form REGISTRY=URL")?;
        let uri: http::Uri = url.parse().map_err(|_| format!("{url} is not a URL"))?;
        let host = uri.authority().map(|a| a.as_str().to_owned());
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(format!("{url}: a mirror is an http:// or https:// URL")),
        };
        match host {
            Some(host) if !registry.is_empty() && matches!(uri.path(), "" | "/") => Ok(Self {
                registry: registry.to_owned(),
                server: Server { host, scheme },
            }),
            _ => Err(format!("{url}: a mirror is a server without a path")),
        }
    }
}

/// A server and how to speak to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `HOST[:PORT]`
    pub host: String,
    /// With or without TLS.
    pub scheme: Scheme,
}

/// With or without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without.
    Http,
    /// With.
    Https,
    /// With, if the server speaks it: for registries that need not.
    Either,
}

/// A full name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    /// As images name the registry: `docker.io`.
    pub(super) registry: String,
    /// `library/web`
    pub(super) repository: String,
    /// A tag, or a digest.
    pub(super) version: String,
}

impl Reference {
    pub(super) fn of(name: &ImageName<'_>) -> Self {
        let version = name.digest().or(name.tag()).unwrap_or_default();
        Self {
            registry: name.registry().to_owned(),
            repository: name.repository(),
            version: version.to_owned(),
        }
    }

    /// The digest, if it names one.
    pub(super) fn digest(&self) -> Option<&str> {
        self.version.contains(':').then_some(self.version.as_str())
    }
}

/// The servers to ask, in this order.
pub(super) fn servers(registry: &str, options: &RegistryOptions) -> Vec<Server> {
    let mirrors = options.mirrors.iter().filter(|mirror| mirror.registry == registry);
    let mut all: Vec<Server> = mirrors.map(|mirror| mirror.server.clone()).collect();
    let host = match registry {
        "docker.io" => "registry-1.docker.io",
        other => other,
    };
    let scheme = if may_be_plain(host, options) {
        Scheme::Either
    } else {
        Scheme::Https
    };
    all.push(Server {
        host: host.to_owned(),
        scheme,
    });
    all
}

/// Whether a server may be spoken to without TLS: it is this machine, or the user said so.
pub(super) fn may_be_plain(host: &str, options: &RegistryOptions) -> bool {
    let name = without_port(host);
    let loopback = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let plain_mirror = |mirror: &Mirror| mirror.server.host == host && mirror.server.scheme == Scheme::Http;
    loopback || options.insecure.iter().any(|named| named == host) || options.mirrors.iter().any(plain_mirror)
}

/// `[::1]:5000` → `::1`
pub(super) fn without_port(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let parts = |name| {
            let reference = Reference::of(&ImageName::of(name));
            (reference.registry, reference.repository, reference.version)
        };
        let three = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(parts("web"), three("docker.io", "library/web", "latest"));
        assert_eq!(parts("localhost:5000/a/b:1"), three("localhost:5000", "a/b", "1"));
        assert_eq!(parts("r:1/a:1@sha256:12"), three("r:1", "a", "sha256:12"));
        assert_eq!(
            Reference::of(&ImageName::of("r:1/a@sha256:12")).digest(),
            Some("sha256:12")
        );
    }

    #[test]
    fn mirrors_come_first_and_tls_is_the_rule() {
        let options = RegistryOptions {
            insecure: vec!["plain:5000".into()],
            mirrors: vec![Mirror::parse("docker.io=http://mirror:5000/").unwrap_or_else(|e| panic!("{e}"))],
            ..RegistryOptions::default()
        };
        let of = |registry| -> Vec<(String, Scheme)> {
            servers(registry, &options)
                .into_iter()
                .map(|s| (s.host, s.scheme))
                .collect()
        };
        assert_eq!(
            of("docker.io"),
            [
                ("mirror:5000".into(), Scheme::Http),
                ("registry-1.docker.io".into(), Scheme::Https)
            ]
        );
        for plain in ["localhost:5000", "127.0.0.1:5000", "[::1]:5000", "plain:5000"] {
            assert_eq!(of(plain), [(plain.to_owned(), Scheme::Either)]);
        }
        assert_eq!(
            of("plain"),
            [("plain".into(), Scheme::Https)],
            "another port is another server"
        );
        for bad in [
            "docker.io",
            "docker.io=localhost:5000",
            "x=ftp://y",
            "x=http://y/path",
            "=http://y",
        ] {
            assert!(Mirror::parse(bad).is_err(), "{bad}");
        }
    }
}
