//! Requests about one repository at one server: who we are, redirects, and what an answer that is no success means.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, LOCATION, RANGE, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::challenge::{self, Challenge};
use super::hosts::Server;
use super::transport::Transport;
use super::{Credentials, PullError, manifest};

/// A server that sends nothing for so long is given up.
pub(super) const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// A request is sent so often at most while there is no answer.
const ATTEMPTS: u32 = 3;
/// Only what breaks so soon is asked again: who is silent was waited for long enough.
const AT_ONCE: Duration = Duration::from_secs(5);
/// The wait before the second time; then it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A blob may lie a few servers further on.
const REDIRECTS_MAX: usize = 5;
/// Manifests and tokens are smaller (distribution specification: registries take manifests of at least 4 MiB).
pub(super) const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// What of an error's body is worth reading.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// See the module.
pub(super) struct Session<'a> {
    transport: &'a Transport,
    /// `http://host:5000`
    origin: String,
    /// For messages.
    pub(super) host: String,
    repository: String,
    credentials: Vec<Credentials>,
    /// What the server accepted last.
    authorization: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What is asked for, wherever it leads and whoever asks.
struct Ask<'a> {
    method: Method,
    uri: String,
    accept: Option<&'a str>,
    range: Option<&'a str>,
}

impl<'a> Session<'a> {
    pub(super) async fn new(
        transport: &'a Transport,
        server: &Server,
        repository: &str,
        credentials: Vec<Credentials>,
    ) -> Result<Self, PullError> {
        let scheme = transport.scheme(server).await?;
        Ok(Self {
            transport,
            origin: format!("{scheme}://{}", server.host),
            host: server.host.clone(),
            repository: repository.to_owned(),
            credentials,
            authorization: Mutex::default(),
        })
    }

    /// The digest of what lies under a tag now, if the server says it without the rest.
    pub(super) async fn digest_of(&self, version: &str) -> Result<Option<String>, PullError> {
        let path = format!("manifests/{version}");
        let response = self.request(Method::HEAD, &path, Some(manifest::ACCEPT), None).await?;
        match response.status() {
            StatusCode::OK => Ok(content_digest(&response)),
            // The GET that follows says what is the matter.
            _ => Ok(None),
        }
    }

    /// A manifest or index with its digest, checked.
    pub(super) async fn manifest(&self, version: &str) -> Result<(Vec<u8>, String), PullError> {
        let path = format!("manifests/{version}");
        let response = self.request(Method::GET, &path, Some(manifest::ACCEPT), None).await?;
        if response.status() != StatusCode::OK {
            return Err(self.failure(response, version).await);
        }
        let promised = content_digest(&response);
        let bytes = self.whole(response, DOCUMENT_BYTES_MAX).await?;
        let digest = manifest::digest(&bytes);
        let wanted = if version.contains(':') {
            Some(version.to_owned())
        } else {
            promised
        };
        match wanted {
            Some(wanted) if wanted != digest => Err(PullError::Refused(format!(
                "the manifest that registry {} sent is damaged: its digest is {digest}, not {wanted}",
                self.host
            ))),
            _ => Ok((bytes, digest)),
        }
    }

    /// A blob from a byte on. `None`: there is no such byte (416).
    pub(super) async fn blob(&self, digest: &str, from: u64) -> Result<Option<Response<Incoming>>, PullError> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let response = self
            .request(Method::GET, &format!("blobs/{digest}"), None, range.as_deref())
            .await?;
        match response.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(Some(response)),
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(None),
            _ => Err(self.failure(response, digest).await),
        }
    }

    async fn whole(&self, response: Response<Incoming>, limit: usize) -> Result<Vec<u8>, PullError> {
        let reading = Limited::new(response.into_body(), limit).collect();
        let body = tokio::time::timeout(SILENCE_LIMIT, reading).await;
        let failed = |why: String| PullError::Unavailable(format!("registry {}: {why}", self.host));
        match body {
            Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("the answer does not come to an end".to_owned())),
        }
    }

    /// One request, proving who asks if the server wants that.
    async fn request(
        &self,
        method: Method,
        path: &str,
        accept: Option<&str>,
        range: Option<&str>,
    ) -> Result<Response<Incoming>, PullError> {
        let ask = Ask {
            method,
            uri: format!("{}/v2/{}/{path}", self.origin, self.repository),
            accept,
            range,
        };
        let known = self.authorization.lock().await.clone();
        let response = self.follow(&ask, known.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let wanted: Vec<&str> = headers.filter_map(|value| value.to_str().ok()).collect();
        let Some(challenge) = challenge::parse(&wanted.join(", ")) else {
            return Ok(response);
        };
        let mut refused = response;
        let mut told = None;
        // Without any credentials a token may still be had; it says that anybody may read.
        for credentials in self.credentials.iter().map(Some).chain([None]) {
            let authorization = match self.authorize(&challenge, credentials).await {
                Ok(Some(authorization)) => authorization,
                Ok(None) => continue,
                Err(error @ PullError::Refused(_)) => {
                    told = told.or(Some(error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let response = self.follow(&ask, Some(&authorization)).await?;
            if !matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
                *self.authorization.lock().await = Some(authorization);
                return Ok(response);
            }
            refused = response;
        }
        told.map_or(Ok(refused), Err)
    }

    /// The value of an `Authorization` header that answers the challenge. `None`: there is none for these credentials.
    async fn authorize(
        &self,
        challenge: &Challenge,
        credentials: Option<&Credentials>,
    ) -> Result<Option<String>, PullError> {
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return Ok(credentials.map(Credentials::basic));
        };
        let pull = format!("repository:{}:pull", self.repository);
        let text = challenge::token_uri(realm, service.as_deref(), scope.as_deref().unwrap_or(&pull));
        let unusable =
            |why: &str| PullError::Refused(format!("registry {}: its token server {realm} {why}", self.host));
        let uri: Uri = text.parse().map_err(|_| unusable("is no URL"))?;
        let plain = uri.scheme_str() != Some("https");
        if plain && !(self.origin.starts_with("http:") || self.transport.allows_plain(&uri)) {
            return Err(unusable("has no TLS: a password must not be sent there"));
        }
        let basic = credentials.map(Credentials::basic);
        let ask = Ask {
            method: Method::GET,
            uri: text,
            accept: None,
            range: None,
        };
        let response = self.follow(&ask, basic.as_deref()).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(PullError::Refused(match credentials {
                    Some(known) => format!(
                        "registry {}: user {:?} is not let in: wrong user or password",
                        self.host, known.username
                    ),
                    None => self.denied(),
                }));
            }
            _ => return Err(self.failure(response, "token").await),
        }
        let bytes = self.whole(response, DOCUMENT_BYTES_MAX).await?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| unusable("does not answer with a token"))?;
        let token = if token.token.is_empty() {
            token.access_token
        } else {
            token.token
        };
        if token.is_empty() {
            return Err(unusable("does not answer with a token"));
        }
        Ok(Some(format!("Bearer {token}")))
    }

    /// A request to wherever it leads. Another server is not told who we are.
    ///
    /// A connection that breaks at once is no reason to give up: it may be one that the server had closed meanwhile.
    async fn follow(&self, ask: &Ask<'_>, authorization: Option<&str>) -> Result<Response<Incoming>, PullError> {
        let mut wait = FIRST_WAIT;
        for _ in 1..ATTEMPTS {
            let begin = Instant::now();
            match self.follow_once(ask, authorization).await {
                Err(PullError::Unavailable(why)) if begin.elapsed() < AT_ONCE => {
                    tracing::debug!(uri = ask.uri, why, "asking again");
                }
                other => return other,
            }
            tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
            wait *= 2;
        }
        self.follow_once(ask, authorization).await
    }

    async fn follow_once(&self, ask: &Ask<'_>, authorization: Option<&str>) -> Result<Response<Incoming>, PullError> {
        let first: Uri = ask
            .uri
            .parse()
            .map_err(|_| PullError::Refused(format!("{} is no URL", ask.uri)))?;
        let origin = |uri: &Uri| (uri.scheme_str().map(str::to_owned), uri.authority().cloned());
        let mut uri = first.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = Request::builder().method(ask.method.clone()).uri(uri.clone());
            request = request.header("user-agent", concat!("afloat/", env!("CARGO_PKG_VERSION")));
            let own = authorization.filter(|_| origin(&uri) == origin(&first));
            for (name, value) in [(ACCEPT, ask.accept), (RANGE, ask.range), (AUTHORIZATION, own)] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            let request = request
                .body(Empty::<Bytes>::new())
                .map_err(|e| PullError::Refused(e.to_string()))?;
            let response = self.transport.send(request).await?;
            let moved = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let Some(location) = location.filter(|_| moved) else {
                return Ok(response);
            };
            uri = self.next(&uri, location)?;
        }
        Err(PullError::Refused(format!(
            "registry {}: redirects without end",
            self.host
        )))
    }

    fn next(&self, from: &Uri, location: &str) -> Result<Uri, PullError> {
        let bad = |why: &str| PullError::Refused(format!("registry {} redirects to {location}, {why}", self.host));
        let text = if location.starts_with('/') && !location.starts_with("//") {
            let authority = from.authority().map(|a| a.as_str()).unwrap_or_default();
            format!("{}://{authority}{location}", from.scheme_str().unwrap_or("https"))
        } else {
            location.to_owned()
        };
        let uri: Uri = text.parse().map_err(|_| bad("which is no URL"))?;
        match uri.scheme_str() {
            Some("https") => Ok(uri),
            Some("http") if from.scheme_str() == Some("http") || self.transport.allows_plain(&uri) => Ok(uri),
            Some("http") => Err(bad("away from TLS")),
            _ => Err(bad("which is neither http nor https")),
        }
    }

    fn denied(&self) -> String {
        let hint = if self.credentials.is_empty() {
            "; it may need a pull secret (imagePullSecrets)"
        } else {
            ""
        };
        format!(
            "pull access denied for {} at registry {}: the repository does not exist or is not for this user{hint}",
            self.repository, self.host
        )
    }

    /// What an answer means that is no success.
    async fn failure(&self, response: Response<Incoming>, what: &str) -> PullError {
        let status = response.status();
        match status {
            StatusCode::NOT_FOUND => {
                let separator = if what.contains(':') { '@' } else { ':' };
                return PullError::Refused(format!(
                    "{}{separator}{what}: not found at registry {}",
                    self.repository, self.host
                ));
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return PullError::Refused(self.denied()),
            _ => {}
        }
        let body = self.whole(response, ERROR_BYTES_MAX).await.unwrap_or_default();
        let said = serde_json::from_slice::<Errors>(&body)
            .ok()
            .and_then(|all| all.errors.into_iter().next());
        let said = said.map_or_else(String::new, |entry| format!(": {} {}", entry.code, entry.message));
        let text = format!("registry {} answers {status}{said}", self.host);
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            PullError::Unavailable(text)
        } else {
            PullError::Refused(text)
        }
    }
}

fn content_digest(response: &Response<Incoming>) -> Option<String> {
    let value = response.headers().get("docker-content-digest")?.to_str().ok()?;
    afloat_words::image::is_digest(value).then(|| value.to_owned())
}
