//! What is known of a kind: [`Kind`], the row of a built-in one, and [`Resource`], what is served at one version.

use std::sync::Arc;

use serde_json::Value;

use crate::convert::custom::Conversion;
use crate::schema::Rules;
use crate::{FieldError, names};

/// A built-in kind: all that this crate and the API server know of it, in one row. What a row leaves out is [`Kind::PLAIN`]'s.
#[derive(Debug)]
pub struct Kind {
    /// API group, empty for core.
    pub group: &'static str,
    /// The version that is served and stored.
    pub version: &'static str,
    /// `Pod`.
    pub kind: &'static str,
    /// `pods`.
    pub plural: &'static str,
    /// `po`.
    pub short_names: &'static [&'static str],
    /// `all`.
    pub categories: &'static [&'static str],
    /// False: cluster-scoped.
    pub namespaced: bool,
    /// What becomes of its status.
    pub status: Status,
    /// Has a `scale` subresource: replicas where all built-in kinds have them.
    pub scale: bool,
    /// Subresources other than status and scale: `log`, `exec`, `binding`, `eviction`, …
    pub subresources: &'static [&'static str],
    /// Where its objects are.
    pub serving: Serving,
    /// Of which other kind its objects are stored. None: they are stored as they are.
    pub stored_as: Option<StoredAs>,
    /// What is wrong with the name of an object.
    pub name: fn(&str) -> Vec<String>,
    /// Whether `metadata.generation` counts the changes of its objects.
    pub counts: bool,
    /// Whether a null means something in it; elsewhere it is a field that is not there.
    pub keeps_nulls: bool,
    /// Sets the defaults of a new or changed object.
    pub default: fn(&mut Value),
    /// Gives a new object, behind its defaults, its first status and what admission plugins add.
    pub begin: fn(&mut Value),
    /// Takes over from the old object what a client that changes it means to keep. Old, new.
    pub keep: fn(&Value, &mut Value),
    /// The same where a client writes the status; the last is the present time, RFC 3339.
    pub keep_status: fn(&Value, &mut Value, &str),
    /// Everything that is wrong with an object, whatever it was before.
    pub validate: fn(&Value) -> Vec<FieldError>,
    /// What may not be in a new object, although it may in a changed one.
    pub validate_create: fn(&Value) -> Vec<FieldError>,
    /// Everything that is wrong with the step from the old object to the new one.
    pub validate_update: fn(&Value, &Value) -> Vec<FieldError>,
    /// The same for a write of the status alone.
    pub validate_status: fn(&Value, &Value) -> Vec<FieldError>,
    /// What a client should know about an object that is accepted.
    pub warnings: fn(&Value) -> Vec<String>,
    /// Why nothing comes of its objects here: whoever writes one is told. None: something does.
    pub inert: Option<&'static str>,
    /// Its fields of which nothing comes here.
    pub inert_fields: &'static [Inert],
    /// What of the metadata a write of `/status` changes.
    pub status_changes: StatusChanges,
    /// Paths of fields by which objects can be selected, besides name and namespace. Source: Kubernetes' conversion functions.
    pub selectable: &'static [&'static str],
    /// How `kubectl get` shows it. None: name and age.
    pub table: Option<Table>,
    /// How its objects go.
    pub deletion: Deletion,
    /// Whether what its objects own stays behind where a deletion does not say what shall become of it, as before there was a
    /// garbage collector.
    pub orphans: bool,
    /// Names of objects that may not be deleted, and why.
    pub undeletable: Option<(&'static [&'static str], &'static str)>,
    /// Finalizer that keeps objects while they are in use (admission plugin StorageObjectInUseProtection).
    pub protection: Option<&'static str>,
    /// What the server gives an object from what else it knows.
    pub given: Given,
    /// Whether a service account's token may live and die with an object (`spec.boundObjectRef` of a TokenRequest).
    pub binds_tokens: Option<BindsTokens>,
    /// Who answers HTTP below `proxy` of an object. None: nobody.
    pub proxied: Option<Proxied>,
    /// Where in an object a pod is described: nowhere, or at the end of this path (which is empty for a pod itself).
    pub describes_pods: Option<&'static [&'static str]>,
    /// What it has to do with rights: whoever writes one must have what it gives.
    pub grants: Option<Grants>,
    /// Whether admission policies do not look at it: it is what people get rid of a bad policy by.
    pub beyond_policies: bool,
    /// Whether its objects hold expressions, which are compiled when it is written.
    pub brings_expressions: bool,
}

/// A field that is stored and of which nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inert {
    /// Where it is: names with dots between them, `[]` behind that of a list.
    pub path: &'static str,
    /// Which values do nothing.
    pub when: When,
    /// What does not come of it.
    pub says: &'static str,
}

impl Inert {
    /// A field that does nothing whatever is in it.
    pub const fn set(path: &'static str, says: &'static str) -> Self {
        let when = When::Set;
        Self { path, when, says }
    }
}

/// Values of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// All that say something: not null, false, empty.
    Set,
    /// This one.
    Is(&'static str),
}

/// What becomes of the status of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It has no `status` subresource.
    None,
    /// It has one: what a client says of it in a new object is dropped.
    Own,
    /// It has one, and who registers an object gives it its first status (nodes).
    Given,
}

/// Where the objects of a kind are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// In the store.
    Stored,
    /// Nowhere: a question that is answered when it is created.
    Review(Review),
    /// With the nodes, which are asked (`metrics.k8s.io`): only `get` and `list` are served.
    Measured,
}

/// What a review asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Review {
    /// Who am I.
    Subject,
    /// Whose token is this.
    Token,
    /// May somebody do this.
    Access,
    /// May I do this.
    OwnAccess,
    /// What may I do.
    Rules,
}

/// Objects of a kind that are stored as those of another, in other words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredAs {
    /// The other kind's group; version, kind and plural are the same.
    pub group: &'static str,
    /// Own name of a field, the other kind's name. Everything else has the same name in both.
    pub renamed: &'static [(&'static str, &'static str)],
}

/// How the objects of a kind go when they are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// At once, or when the last finalizer has gone.
    AtOnce,
    /// When the kubelet has stopped what runs there, or a grace period is over: a pod.
    Graceful,
    /// When all that is in it has gone, which its `spec.finalizers` say: a namespace.
    Emptied,
}

/// What the server gives an object of a kind when it is written, from what else it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Nothing.
    Nothing,
    /// A pod: its service account's token, and what its priority class and runtime class say (admission plugins ServiceAccount,
    /// Priority, RuntimeClass).
    TokenAndClasses,
    /// A priority class: whether it can be the default.
    OneDefault,
    /// A claim: the default class (admission plugin DefaultStorageClass).
    StorageClass,
    /// A Service: a cluster IP and node ports.
    Addresses,
    /// A request for a certificate: who asks.
    Requester,
    /// A definition: whether its names can be had.
    AcceptedNames,
}

/// How an object gives rights away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grants {
    /// It has rules.
    Role,
    /// It gives somebody a role.
    Binding,
    /// Once approved and signed, it lets somebody in.
    Certificate,
}

/// What of the metadata a write of `/status` changes besides. Source: `PrepareForUpdate` of each kind's strategy for its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusChanges {
    /// Labels, annotations, finalizers and owners.
    Metadata,
    /// All that but labels.
    NoLabels,
    /// All that but owners.
    NoOwners,
    /// None of it.
    Nothing,
}

/// As what an object stands in the tokens that are bound to it (KEP-1205, KEP-4193).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindsTokens {
    /// The pod that runs as the account.
    Pod,
    /// The node.
    Node,
    /// A secret.
    Secret,
}

/// Who answers HTTP for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxied {
    /// What runs in it: a pod.
    Itself,
    /// One of its endpoints: a Service.
    Endpoints,
    /// Its kubelet: a node.
    Kubelet,
}

/// How a kind is printed.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its columns. NAME comes before them unless it is among them; AGE is a column like any other.
    pub columns: &'static [Column],
    /// What fills them: an object and the present time, RFC 3339.
    pub cells: fn(&Value, &str) -> Vec<Value>,
}

/// A column of a [`Table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its heading, as Kubernetes writes it.
    pub name: &'static str,
    /// OpenAPI type of its cells: `string`, `integer`, `boolean`, `date`.
    pub kind: &'static str,
    /// Shown by `-o wide` only.
    pub wide: bool,
}

impl Column {
    /// A column of texts.
    pub const fn text(name: &'static str) -> Self {
        Self::of(name, "string")
    }

    /// A column of another type.
    pub const fn of(name: &'static str, kind: &'static str) -> Self {
        let wide = false;
        Self { name, kind, wide }
    }

    /// A column of texts that only `-o wide` shows.
    pub const fn wide(name: &'static str) -> Self {
        let (kind, wide) = ("string", true);
        Self { name, kind, wide }
    }
}

impl Kind {
    /// A kind of which nothing special is known: rows begin from it.
    pub const PLAIN: Self = Self {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        short_names: &[],
        categories: &[],
        namespaced: false,
        status: Status::None,
        scale: false,
        subresources: &[],
        serving: Serving::Stored,
        stored_as: None,
        name: names::dns_subdomain,
        counts: false,
        keeps_nulls: false,
        default: |_| {},
        begin: |_| {},
        keep: |_, _| {},
        keep_status: |_, _, _| {},
        validate: |_| Vec::new(),
        validate_create: |_| Vec::new(),
        validate_update: |_, _| Vec::new(),
        validate_status: |_, _| Vec::new(),
        warnings: |_| Vec::new(),
        inert: None,
        inert_fields: &[],
        status_changes: StatusChanges::Metadata,
        selectable: &[],
        table: None,
        deletion: Deletion::AtOnce,
        orphans: false,
        undeletable: None,
        protection: None,
        given: Given::Nothing,
        binds_tokens: None,
        proxied: None,
        describes_pods: None,
        grants: None,
        beyond_policies: false,
        brings_expressions: false,
    };
}

/// One served resource at one version.
#[derive(Clone, Debug)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// Served version, for example `v1`.
    pub version: String,
    /// Group under which objects are stored: the same as `group`, unless they are stored as another kind's (see
    /// [`crate::convert`]).
    pub storage_group: String,
    /// Version in which objects of this group and kind are stored from now on.
    pub storage_version: String,
    /// `Pod`.
    pub kind: String,
    /// `PodList`.
    pub list_kind: String,
    /// `pods`.
    pub plural: String,
    /// `pod`.
    pub singular: String,
    /// `po`.
    pub short_names: Vec<String>,
    /// `all`.
    pub categories: Vec<String>,
    /// False: cluster-scoped.
    pub namespaced: bool,
    /// Has a `status` subresource.
    pub status: bool,
    /// Has a `scale` subresource.
    pub scale: Option<ScalePaths>,
    /// Other subresources: `log`, `exec`, `binding`, `eviction`, `ephemeralcontainers`, …
    pub subresources: Vec<&'static str>,
    /// The row of a built-in kind. None for one that a CRD defines.
    pub builtin: Option<&'static Kind>,
    /// Of a CRD: `spec.versions[].schema.openAPIV3Schema`. None for built-in kinds.
    pub schema: Option<Arc<Value>>,
    /// Of a CRD: its CEL rules, compiled once. None for built-in kinds and for schemas without rules.
    pub rules: Option<Rules>,
    /// Of a CRD: `additionalPrinterColumns`. Built-in kinds have theirs in their row.
    pub columns: Arc<Value>,
    /// Of a CRD with several versions or with defaults: how what is stored, of whichever version, becomes what is served.
    pub conversion: Option<Arc<Conversion>>,
}

impl Resource {
    /// A built-in kind.
    pub(crate) fn of(row: &'static Kind) -> Self {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Self {
            group: row.group.to_owned(),
            version: row.version.to_owned(),
            storage_group: row.stored_as.map_or(row.group, |other| other.group).to_owned(),
            storage_version: row.version.to_owned(),
            kind: row.kind.to_owned(),
            list_kind: format!("{}List", row.kind),
            plural: row.plural.to_owned(),
            singular: row.kind.to_lowercase(),
            short_names: texts(row.short_names),
            categories: texts(row.categories),
            namespaced: row.namespaced,
            status: row.status != Status::None,
            scale: row.scale.then(|| ScalePaths {
                spec: ".spec.replicas".to_owned(),
                status: ".status.replicas".to_owned(),
                selector: Some(".spec.selector".to_owned()),
            }),
            subresources: row.subresources.to_vec(),
            builtin: Some(row),
            schema: None,
            rules: None,
            columns: Arc::new(Value::Null),
            conversion: None,
        }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// The `apiVersion` of stored objects.
    pub fn storage_api_version(&self) -> String {
        api_version(&self.storage_group, &self.storage_version)
    }

    /// `deployments.apps`, or `pods` for the core group: how Kubernetes names a resource in messages.
    pub fn qualified_name(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Whether a CustomResourceDefinition defines it.
    pub fn is_custom(&self) -> bool {
        self.schema.is_some()
    }

    /// Whether `metadata.generation` counts the changes of its objects: of those of a CustomResourceDefinition always.
    pub(crate) fn counts(&self) -> bool {
        self.builtin.is_none_or(|kind| kind.counts)
    }

    /// Where its objects are.
    pub fn serving(&self) -> Serving {
        self.builtin.map_or(Serving::Stored, |row| row.serving)
    }

    /// Whether its objects are in the store.
    pub fn is_stored(&self) -> bool {
        self.serving() == Serving::Stored
    }

    /// How its objects go when they are deleted.
    pub fn deletion(&self) -> Deletion {
        self.builtin.map_or(Deletion::AtOnce, |row| row.deletion)
    }

    /// What the server gives its objects.
    pub fn given(&self) -> Given {
        self.builtin.map_or(Given::Nothing, |row| row.given)
    }

    /// Whether its objects are what other objects are in.
    pub fn is_namespace(&self) -> bool {
        self.deletion() == Deletion::Emptied
    }
}

/// JSON paths of the scale subresource, as a CRD names them (`.spec.replicas`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// `specReplicasPath`.
    pub spec: String,
    /// `statusReplicasPath`.
    pub status: String,
    /// `labelSelectorPath`: a string in the object. For built-in kinds `.spec.selector` (an object, which is serialised).
    pub selector: Option<String>,
}

/// `apps/v1`, or `v1` for the core group, whose name is empty.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}
