//! Which versions are served, and who converts between them.

use afloat_api::{Door, Serving};
use clap::{Args, ValueEnum};

/// What `afloat operator` and `afloat crds` are told alike.
#[derive(Args, Clone, Debug)]
pub(crate) struct ServingOptions {
    /// Versions that are served: both, between which the operator's webhook converts, or v1beta1 alone, without a webhook
    #[arg(long, env = "AFLOAT_SERVE", value_enum, default_value_t = Served::Both)]
    pub(crate) serve: Served,
    /// Service by which the API server reaches the webhook
    #[arg(long, env = "AFLOAT_WEBHOOK_SERVICE", value_name = "NAMESPACE/NAME", default_value = "kruise-system/afloat-webhook", value_parser = service)]
    pub(crate) webhook_service: ServiceName,
    /// Where the API server reaches the webhook of an operator outside the cluster, instead of by a Service: https://HOST:PORT/convert
    #[arg(long, env = "AFLOAT_WEBHOOK_URL", value_name = "URL", value_parser = url)]
    pub(crate) webhook_url: Option<String>,
}

/// Versions that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Served {
    /// v1alpha1 and v1beta1.
    Both,
    /// v1beta1.
    V1beta1,
}

/// Namespace and name.
#[derive(Clone, Debug)]
pub(crate) struct ServiceName {
    pub(crate) namespace: String,
    name: String,
}

impl ServingOptions {
    /// How the API server reaches the webhook; None without one.
    pub(crate) fn door(&self) -> Option<Door> {
        (self.serve == Served::Both).then(|| match &self.webhook_url {
            Some(url) => Door::Url(url.clone()),
            None => Door::Service {
                namespace: self.webhook_service.namespace.clone(),
                name: self.webhook_service.name.clone(),
            },
        })
    }

    /// The same, with objects stored as v1beta1.
    pub(crate) fn serving(&self) -> Serving {
        Serving {
            webhook: self.door(),
            ..Serving::default()
        }
    }
}

fn service(text: &str) -> Result<ServiceName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ServiceName {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            })
        }
        _ => Err("not of the form NAMESPACE/NAME".to_owned()),
    }
}

/// What Kubernetes takes: no user, no query.
pub(crate) fn url(text: &str) -> Result<String, String> {
    let uri: http::Uri = text.parse().map_err(|error| format!("not a URL: {error}"))?;
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    if uri.scheme_str() != Some("https") || authority.is_empty() || authority.contains('@') {
        return Err("not of the form https://HOST:PORT/convert".to_owned());
    }
    if uri.path() != afloat_api::names::WEBHOOK_PATH || uri.query().is_some() || text.contains('#') {
        return Err(format!("the operator converts at {}", afloat_api::names::WEBHOOK_PATH));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_urls() {
        assert!(service("a/b").is_ok());
        for bad in ["", "a", "/b", "a/", "a/b/c"] {
            assert!(service(bad).is_err(), "{bad}");
        }
        for good in [
            "https://host:9443/convert",
            "https://[::1]:9443/convert",
            "https://host/convert",
        ] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in [
            "host",
            "http://host/convert",
            "https://host",
            "https://u@host/convert",
            "https://host/convert?a=b",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
