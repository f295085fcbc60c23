//! Webhooks that have a say in what clients write; those that may change it have one in what is created. As with the policies, what this process does of its own accord is not asked about;
//! nor are the subresources `scale`, `binding` and `token`, and what a connection is opened to (`exec`).

use std::sync::Arc;

use afloat_machinery::admission::webhook::{Answer, Flavour, Hook};
use afloat_machinery::admission::{Operation, Request};
use afloat_machinery::patch::{self, PatchError, PatchType};
use futures::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::admit::Admission;
use crate::view;
use crate::wire::call::Call;
use crate::wire::status::Status;

/// What a client wants to do.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) call: &'a Call,
    pub(crate) operation: Operation,
    pub(crate) dry_run: bool,
}

impl Admission {
    /// Asks the validating webhooks. `old` and `object`: as it is stored, as it will be; of an eviction, the eviction.
    ///
    /// # Errors
    /// If one refuses, or cannot be asked and must be. Otherwise the client's warnings.
    pub(crate) async fn ask_webhooks(
        &self,
        asked: Asked<'_>,
        old: Option<&Value>,
        object: Option<&Value>,
    ) -> Result<Vec<String>, Status> {
        let hooks = self.policies.with(|bound| bound.hooks());
        if hooks.is_empty(Flavour::Validating) {
            return Ok(Vec::new());
        }
        let namespace = self.namespace_of(asked.call);
        let request = request(asked, namespace.as_ref(), old, object);
        let hooks = hooks.asked(Flavour::Validating, &request).map_err(Status::internal)?;
        let answers = join_all(hooks.iter().map(|hook| self.consult(hook, asked, &request))).await;
        let mut warnings = Vec::new();
        for answer in answers {
            let answer = answer?;
            if let Some(refused) = &answer.refused {
                return Err(Status::of_webhook(refused));
            }
            warnings.extend(answer.warnings);
        }
        Ok(warnings)
    }

    /// Asks the mutating webhooks about what is to be created, one after the other, each about what the one before has made of it.
    /// Ok: whether anything is changed, and the client's warnings.
    ///
    /// # Errors
    /// If one refuses, or cannot be asked and must be; or its patch does not fit.
    pub(crate) async fn ask_mutating(
        &self,
        asked: Asked<'_>,
        object: &mut Value,
    ) -> Result<(bool, Vec<String>), Status> {
        let hooks = self.policies.with(|bound| bound.hooks());
        let (mut changed, mut warnings) = (false, Vec::new());
        if hooks.is_empty(Flavour::Mutating) {
            return Ok((changed, warnings));
        }
        let namespace = self.namespace_of(asked.call);
        let hooks = {
            let request = request(asked, namespace.as_ref(), None, Some(object));
            hooks.asked(Flavour::Mutating, &request).map_err(Status::internal)?
        };
        for hook in hooks {
            let answer = {
                let request = request(asked, namespace.as_ref(), None, Some(object));
                self.consult(&hook, asked, &request).await?
            };
            if let Some(refused) = &answer.refused {
                return Err(Status::of_webhook(refused));
            }
            warnings.extend(answer.warnings);
            if let Some(patch) = answer.patch {
                let patched = patch::apply(PatchType::Json, &asked.call.resource, object, &patch);
                *object = patched.map_err(|error| misfit(&hook.name, error))?;
                changed = true;
            }
        }
        Ok((changed, warnings))
    }

    fn namespace_of(&self, call: &Call) -> Option<Value> {
        let entry = self.reader.namespace(call.namespace()?)?;
        serde_json::from_slice(&entry.value).ok()
    }

    /// Asks one. Who cannot be asked and need not be has nothing to say.
    async fn consult(&self, hook: &Arc<Hook>, asked: Asked<'_>, request: &Request<'_>) -> Result<Answer, Status> {
        if let Some(why) = hook.refuses_dry_run(request) {
            return Err(Status::bad_request(why));
        }
        let uid = Uuid::new_v4().to_string();
        let question = Hook::question(&uid, request, &asked.call.user, &options(asked));
        let whom = (hook.name.as_str(), &hook.client_config);
        let answer = self.reader.ask_webhook(whom, hook.limit, &question).await;
        match answer.and_then(|review| hook.answer(&uid, &review)) {
            Ok(answer) => Ok(answer),
            Err(why) if hook.lenient => {
                tracing::warn!(webhook = hook.name, why, "failed open calling webhook");
                Ok(Answer::default())
            }
            Err(why) => Err(Status::internal(format!(
                "failed calling webhook {:?}: failed to call webhook: {why}",
                hook.name
            ))),
        }
    }
}

fn misfit(webhook: &str, error: PatchError) -> Status {
    let (PatchError::Malformed(why) | PatchError::Unprocessable(why) | PatchError::Unsupported(why)) = error;
    Status::internal(format!("the patch of webhook {webhook:?} does not fit: {why}"))
}

fn request<'a>(
    asked: Asked<'a>,
    namespace: Option<&'a Value>,
    old: Option<&'a Value>,
    object: Option<&'a Value>,
) -> Request<'a> {
    let call = asked.call;
    let named = object.or(old).map_or("", |object| view::meta(object, "name"));
    Request {
        resource: &call.resource,
        subresource: call.subresource(),
        operation: asked.operation,
        name: if named.is_empty() { call.name() } else { named },
        namespace,
        object,
        old,
        user: &call.user.name,
        groups: &call.user.groups,
        dry_run: asked.dry_run,
    }
}

/// The options of the call, as far as there is more to say than their kind.
fn options(asked: Asked<'_>) -> Value {
    let kind = match (asked.operation, asked.call.verb) {
        (Operation::Create, _) => "CreateOptions",
        (Operation::Update, "patch") => "PatchOptions",
        (Operation::Update, _) => "UpdateOptions",
        (Operation::Delete, _) => "DeleteOptions",
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if asked.dry_run {
        options["dryRun"] = json!(["All"]);
    }
    options
}
