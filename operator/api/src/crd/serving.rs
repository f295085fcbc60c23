//! Which versions are served, and who converts between them.

use serde_json::{Value, json};

use crate::names::{MANAGER_NAMESPACE, WEBHOOK_PATH, WEBHOOK_SERVICE};

/// A version of OpenKruise's kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// What OpenKruise up to 1.9 has of CloneSet.
    V1alpha1,
    /// What the operator speaks.
    #[default]
    V1beta1,
}

impl Version {
    /// As it stands in an `apiVersion`.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1alpha1 => "v1alpha1",
            Self::V1beta1 => "v1beta1",
        }
    }
}

/// Where the API server finds the conversion webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// A Service on port 443; for an operator in the cluster.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A URL that begins with `https://`; for an operator elsewhere.
    Url(String),
}

impl Default for Door {
    fn default() -> Self {
        Self::Service {
            namespace: MANAGER_NAMESPACE.into(),
            name: WEBHOOK_SERVICE.into(),
        }
    }
}

impl Door {
    /// `spec.conversion.webhook.clientConfig` without its `caBundle`. The null takes away what an older definition has: the two
    /// exclude each other.
    pub fn client_config(&self) -> Value {
        self.config_at(WEBHOOK_PATH)
    }

    /// The same for another path that the operator serves.
    pub fn config_at(&self, path: &str) -> Value {
        match self {
            Self::Service { namespace, name } => json!({
                "service": {"namespace": namespace, "name": name, "path": path, "port": 443}, "url": null,
            }),
            Self::Url(url) => {
                let base = url.strip_suffix(WEBHOOK_PATH);
                json!({"service": null, "url": base.map_or_else(|| url.clone(), |base| format!("{base}{path}"))})
            }
        }
    }
}

/// How the kinds with two versions are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Who converts. None: v1beta1 is served alone.
    pub webhook: Option<Door>,
    /// In which version objects are stored.
    pub stored: Version,
    /// Whether templates get the defaults that OpenKruise's webhook fills in, where its gate `TemplateNoDefaults` is off.
    pub template_defaults: bool,
}

impl Default for Serving {
    fn default() -> Self {
        Self {
            webhook: Some(Door::default()),
            stored: Version::V1beta1,
            template_defaults: true,
        }
    }
}

impl Serving {
    /// `spec.conversion` of a definition.
    pub(super) fn conversion(&self) -> Value {
        match &self.webhook {
            None => json!({"strategy": "None", "webhook": null}),
            Some(door) => json!({
                "strategy": "Webhook",
                "webhook": {"clientConfig": door.client_config(), "conversionReviewVersions": ["v1"]},
            }),
        }
    }

    /// v1beta1 alone, without a webhook.
    pub fn v1beta1() -> Self {
        Self {
            webhook: None,
            ..Self::default()
        }
    }
}
