//! One rule of a role.

use serde_json::{Map, Value};

use super::attributes::Attributes;
use super::text::quoted_list;

/// What a role allows: verbs on resources, or on paths that are no resource's.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PolicyRule {
    /// `*`: all.
    pub verbs: Vec<String>,
    /// Empty text: the core group. `*`: all.
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`. `*`: all, with their subresources.
    pub resources: Vec<String>,
    /// Only objects of these names; empty: all.
    pub resource_names: Vec<String>,
    /// Paths; `*` at the end stands for the rest.
    pub non_resource_urls: Vec<String>,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == wanted)
}

/// Whether a path of a rule stands for a path that is asked for. Its stars at the end are taken off, however many (as upstream).
fn is_beginning(pattern: &str, path: &str) -> bool {
    pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*'))
}

/// Whether a resource of a rule stands for `resource/subresource`.
fn names_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    if subresource.is_empty() {
        return pattern == resource;
    }
    let after = |before: &str| pattern.strip_prefix(before)?.strip_prefix('/');
    after(resource) == Some(subresource) || after("*") == Some(subresource)
}

impl PolicyRule {
    /// Reads a rule. What has the wrong type is as if it were not there.
    pub fn read(rule: &Value) -> Self {
        let list = |field: &str| {
            let items = rule[field].as_array().into_iter().flatten();
            items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        Self {
            verbs: list("verbs"),
            api_groups: list("apiGroups"),
            resources: list("resources"),
            resource_names: list("resourceNames"),
            non_resource_urls: list("nonResourceURLs"),
        }
    }

    /// Reads all rules of a role.
    pub fn read_all(role: &Value) -> Vec<Self> {
        role["rules"].as_array().into_iter().flatten().map(Self::read).collect()
    }

    /// Together they allow everything.
    pub fn everything() -> [Self; 2] {
        let star = || vec!["*".to_owned()];
        let resources = Self {
            verbs: star(),
            api_groups: star(),
            resources: star(),
            ..Self::default()
        };
        let paths = Self {
            verbs: star(),
            non_resource_urls: star(),
            ..Self::default()
        };
        [resources, paths]
    }

    /// As objects have it, without what is empty.
    pub fn to_value(&self) -> Value {
        let fields = [
            ("verbs", &self.verbs),
            ("apiGroups", &self.api_groups),
            ("resources", &self.resources),
            ("resourceNames", &self.resource_names),
            ("nonResourceURLs", &self.non_resource_urls),
        ];
        let filled = fields.into_iter().filter(|(_, list)| !list.is_empty());
        Value::Object(Map::from_iter(
            filled.map(|(name, list)| (name.to_owned(), list.clone().into())),
        ))
    }

    /// Whether it allows what a request asks for.
    pub fn allows(&self, asked: &Attributes<'_>) -> bool {
        if !self.has_verb(asked.verb) {
            return false;
        }
        if !asked.is_resource {
            let urls = &self.non_resource_urls;
            return urls
                .iter()
                .any(|url| url == asked.path || is_beginning(url, asked.path));
        }
        self.has_group(asked.group)
            && self
                .resources
                .iter()
                .any(|pattern| names_resource(pattern, asked.resource, asked.subresource))
            && (self.resource_names.is_empty() || has(&self.resource_names, asked.name))
    }

    /// Whether it is about a verb.
    pub(super) fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == "*" || own == verb)
    }

    /// Whether it is about an API group.
    pub(super) fn has_group(&self, group: &str) -> bool {
        self.api_groups.iter().any(|own| own == "*" || own == group)
    }

    /// Whether it is about a resource as another rule writes it: `pods/log` may also be covered by `*/log`.
    pub(super) fn covers_resource(&self, wanted: &str) -> bool {
        has(&self.resources, "*")
            || has(&self.resources, wanted)
            || wanted.split_once('/').is_some_and(|(_, subresource)| {
                self.resources
                    .iter()
                    .any(|own| own.strip_prefix("*/") == Some(subresource))
            })
    }

    /// Whether it is about objects of a name; None: of all names.
    pub(super) fn covers_name(&self, wanted: Option<&str>) -> bool {
        self.resource_names.is_empty() || wanted.is_some_and(|name| has(&self.resource_names, name))
    }

    /// Whether it is about a path as another rule writes it.
    pub(super) fn covers_url(&self, wanted: &str) -> bool {
        let urls = &self.non_resource_urls;
        urls.iter().any(|own| own == wanted || is_beginning(own, wanted))
    }

    /// In short, for messages.
    pub(super) fn text(&self) -> String {
        let fields = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ];
        let filled = fields.into_iter().filter(|(_, list)| !list.is_empty());
        let parts: Vec<String> = filled
            .map(|(name, list)| format!("{name}:{}", quoted_list(list)))
            .collect();
        format!("{{{}}}", parts.join(", "))
    }
}
