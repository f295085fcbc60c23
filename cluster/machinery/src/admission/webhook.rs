//! Admission webhooks: which are asked about a request, what they are asked, and what their answer means.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/>; sentences are Kubernetes' own
//! (`apiserver/pkg/admission/plugin/webhook`). Limits: a request in another version than a rule names is asked about as it is; there is no
//! `authorizer` in conditions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::expression::{Expression, Scope};
use super::matching::Constraints;
use super::read::{items, text};
use super::request::Request;
use crate::authorization::User;

/// What webhooks may do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Change the object.
    Mutating,
    /// Refuse the request.
    Validating,
}

/// All webhooks that configurations name. A cheap copy: what is compiled is shared.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    mutating: Configurations,
    validating: Configurations,
}

/// By name of the configuration: what it was made of, and its webhooks.
type Configurations = BTreeMap<String, (Value, Vec<Arc<Hook>>)>;

/// One webhook.
#[derive(Debug)]
pub struct Hook {
    /// Its name, which sentences give.
    pub name: String,
    /// `clientConfig`.
    pub client_config: Value,
    /// How long its answer may take.
    pub limit: Duration,
    /// A request about which it cannot be asked goes on.
    pub lenient: bool,
    /// Whether it may be asked about what is not stored.
    answers_dry_runs: bool,
    constraints: Option<Constraints>,
    conditions: Vec<Expression>,
}

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The `Status` of a refusal, with its code and the whole sentence.
    pub refused: Option<Value>,
    /// For the client's `Warning` headers.
    pub warnings: Vec<String>,
    /// A JSON patch, of a mutating one.
    pub patch: Option<Value>,
}

impl Hooks {
    /// Heeds a configuration (`admissionregistration.k8s.io/v1`) in place of the one of its name.
    pub fn put(&mut self, flavour: Flavour, configuration: &Value) {
        let name = text(&configuration["metadata"]["name"]);
        let webhooks = &configuration["webhooks"];
        let all = self.of_mut(flavour);
        if all.get(name).is_none_or(|(known, _)| known != webhooks) {
            let hooks = items(webhooks).map(|webhook| Arc::new(Hook::read(webhook))).collect();
            all.insert(name.to_owned(), (webhooks.clone(), hooks));
        }
    }

    /// Forgets a configuration.
    pub fn remove(&mut self, flavour: Flavour, name: &str) {
        self.of_mut(flavour).remove(name);
    }

    /// Whether there is anybody to ask.
    pub fn is_empty(&self, flavour: Flavour) -> bool {
        self.of(flavour).is_empty()
    }

    /// Who is to be asked about a request, in the order of their names.
    ///
    /// # Errors
    /// Why one that must be asked cannot be: the name of it, and the sentence.
    pub fn asked(&self, flavour: Flavour, request: &Request<'_>) -> Result<Vec<Arc<Hook>>, String> {
        // Nobody may lock himself out of what could be locked.
        if request.resource.builtin.is_some_and(|row| row.beyond_policies) {
            return Ok(Vec::new());
        }
        let mut scope = None;
        let mut asked = Vec::new();
        for hook in self.of(flavour).values().flat_map(|(_, hooks)| hooks) {
            if !hook
                .constraints
                .as_ref()
                .is_some_and(|constraints| constraints.fit(request))
            {
                continue;
            }
            if !hook.conditions.is_empty() && !hook.applies(scope.get_or_insert_with(|| Scope::new(request)))? {
                continue;
            }
            asked.push(Arc::clone(hook));
        }
        Ok(asked)
    }

    fn of(&self, flavour: Flavour) -> &Configurations {
        match flavour {
            Flavour::Mutating => &self.mutating,
            Flavour::Validating => &self.validating,
        }
    }

    fn of_mut(&mut self, flavour: Flavour) -> &mut Configurations {
        match flavour {
            Flavour::Mutating => &mut self.mutating,
            Flavour::Validating => &mut self.validating,
        }
    }
}

impl Hook {
    fn read(webhook: &Value) -> Self {
        let mut constraints = webhook.clone();
        constraints["resourceRules"] = webhook["rules"].clone();
        Self {
            name: text(&webhook["name"]).to_owned(),
            client_config: webhook["clientConfig"].clone(),
            limit: Duration::from_secs(webhook["timeoutSeconds"].as_u64().unwrap_or(10)),
            lenient: webhook["failurePolicy"] == "Ignore",
            answers_dry_runs: ["None", "NoneOnDryRun"].contains(&text(&webhook["sideEffects"])),
            // Without rules it is about nothing, where a policy's binding is about everything.
            constraints: items(&webhook["rules"])
                .next()
                .is_some()
                .then(|| Constraints::read(&constraints)),
            conditions: items(&webhook["matchConditions"])
                .map(|condition| Expression::new(text(&condition["expression"])))
                .collect(),
        }
    }

    /// Whether its conditions hold.
    fn applies(&self, scope: &Scope) -> Result<bool, String> {
        scope.begin();
        let held: Vec<_> = self.conditions.iter().map(|condition| scope.holds(condition)).collect();
        if held.contains(&Ok(false)) {
            return Ok(false);
        }
        match held.into_iter().find_map(Result::err) {
            None => Ok(true),
            Some(_) if self.lenient => Ok(false),
            Some(error) => Err(format!("match conditions of webhook {:?}: {error}", self.name)),
        }
    }

    /// Whether it must not be asked about a request, as that will not be stored: the sentence.
    pub fn refuses_dry_run(&self, request: &Request<'_>) -> Option<String> {
        let refuses = request.dry_run && !self.answers_dry_runs;
        refuses.then(|| format!("admission webhook {:?} does not support dry run", self.name))
    }

    /// The AdmissionReview that it is sent. `options`: kind and fields of the call's options.
    pub fn question(uid: &str, request: &Request<'_>, user: &User, options: &Value) -> Value {
        let resource = request.resource;
        // What a subresource takes is of another kind than what it belongs to.
        let sent = request.object.or(request.old);
        let kind = match sent.map(|object| (text(&object["apiVersion"]), text(&object["kind"]))) {
            Some((version, kind)) if !kind.is_empty() => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                json!({"group": group, "version": version, "kind": kind})
            }
            _ => json!({"group": resource.group, "version": resource.version, "kind": resource.kind}),
        };
        let plural = json!({"group": resource.group, "version": resource.version, "resource": resource.plural});
        let namespace = request.namespace.map_or("", |n| text(&n["metadata"]["name"]));
        let extra: BTreeMap<_, _> = user.extra.iter().collect();
        let mut asked = json!({
            "uid": uid, "kind": kind, "resource": plural, "requestKind": kind, "requestResource": plural,
            "name": request.name, "operation": request.operation.as_str(),
            "userInfo": {"username": user.name, "uid": user.uid, "groups": user.groups, "extra": extra},
            "object": request.object, "oldObject": request.old, "dryRun": request.dry_run, "options": options,
        });
        if !namespace.is_empty() {
            asked["namespace"] = namespace.into();
        }
        if !request.subresource.is_empty() {
            asked["subResource"] = request.subresource.into();
            asked["requestSubResource"] = request.subresource.into();
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": asked})
    }

    /// What an answer to a question of that UID says.
    ///
    /// # Errors
    /// If it is none.
    pub fn answer(&self, uid: &str, review: &Value) -> Result<Answer, String> {
        if review["apiVersion"] != "admission.k8s.io/v1" || review["kind"] != "AdmissionReview" {
            return Err("received invalid webhook response: expected an AdmissionReview of admission.k8s.io/v1".into());
        }
        let response = &review["response"];
        if !response.is_object() {
            return Err("webhook response was absent".into());
        }
        if response["uid"] != uid {
            return Err(format!(
                "received invalid webhook response: expected response.uid={uid:?}, got {:?}",
                text(&response["uid"])
            ));
        }
        let warnings = items(&response["warnings"])
            .filter_map(Value::as_str)
            .map(str::to_owned);
        let allowed = response["allowed"] == true;
        let patch = response["patch"]
            .as_str()
            .filter(|_| allowed)
            .map(json_patch)
            .transpose()?;
        Ok(Answer {
            refused: (!allowed).then(|| self.refusal(&response["status"])),
            warnings: warnings.collect(),
            patch,
        })
    }

    /// The `Status` that the client gets: never one of a success, and with the webhook's name.
    fn refusal(&self, given: &Value) -> Value {
        let denied = format!("admission webhook {:?} denied the request", self.name);
        let message = match (text(&given["message"]), text(&given["reason"])) {
            ("", "") => format!("{denied} without explanation"),
            ("", reason) => format!("{denied}: {reason}"),
            (message, _) => format!("{denied}: {message}"),
        };
        let code = given["code"]
            .as_u64()
            .filter(|code| (400..600).contains(code))
            .unwrap_or(400);
        json!({"code": code, "reason": given["reason"], "message": message, "details": given["details"]})
    }
}

fn json_patch(encoded: &str) -> Result<Value, String> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded);
    let bytes = bytes.map_err(|error| format!("the patch is not base64: {error}"))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("the patch is no JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Operation;
    use crate::kinds::Registry;

    fn configuration(change: impl FnOnce(&mut Value)) -> Value {
        let mut webhook = json!({
            "name": "a.example.com", "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": 3,
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE", "DELETE"], "resources": ["pods", "pods/resize"],
                "scope": "*"}],
            "matchConditions": [{"name": "guarded", "expression": "has(oldObject.metadata.annotations) && 'guarded' in oldObject.metadata.annotations"}],
        });
        change(&mut webhook);
        json!({"metadata": {"name": "c"}, "webhooks": [webhook]})
    }

    fn asked(configuration: &Value, subresource: &str, old: &Value, dry_run: bool) -> Result<Vec<Arc<Hook>>, String> {
        let mut hooks = Hooks::default();
        hooks.put(Flavour::Validating, configuration);
        let resource = Registry::builtin().resolve("", "v1", "pods").expect("built in");
        let request = Request {
            resource: &resource,
            subresource,
            operation: Operation::Delete,
            name: "p",
            namespace: None,
            object: None,
            old: Some(old),
            user: "u",
            groups: &[],
            dry_run,
        };
        hooks.asked(Flavour::Validating, &request)
    }

    #[test]
    fn rules_and_conditions_say_who_is_asked() {
        let guarded = json!({"metadata": {"annotations": {"guarded": "x"}}});
        let plain = json!({"metadata": {"name": "p"}});
        let all = configuration(|_| ());
        assert_eq!(asked(&all, "", &guarded, false).unwrap().len(), 1);
        assert_eq!(asked(&all, "resize", &guarded, false).unwrap().len(), 1);
        assert_eq!(asked(&all, "status", &guarded, false).unwrap().len(), 0);
        assert_eq!(asked(&all, "", &plain, false).unwrap().len(), 0);
        let none = configuration(|webhook| webhook["rules"] = json!([]));
        assert_eq!(
            asked(&none, "", &guarded, false).unwrap().len(),
            0,
            "no rules, no requests"
        );
    }

    #[test]
    fn a_condition_that_fails_follows_the_failure_policy() {
        let broken = |policy: &str| {
            configuration(|webhook| {
                webhook["failurePolicy"] = policy.into();
                webhook["matchConditions"] = json!([{"name": "b", "expression": "oldObject.nothing.there == 1"}]);
            })
        };
        let pod = json!({"metadata": {}});
        assert!(asked(&broken("Fail"), "", &pod, false).is_err());
        assert_eq!(asked(&broken("Ignore"), "", &pod, false).unwrap().len(), 0);
    }

    #[test]
    fn an_answer_is_for_its_question_and_never_a_success_that_refuses() {
        let hook = Hook::read(&configuration(|_| ())["webhooks"][0]);
        let review = |response: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
        let said = hook.answer(
            "1",
            &review(json!({"uid": "1", "allowed": false, "status": {"code": 200, "message": "no"}})),
        );
        let refused = said.unwrap().refused.unwrap();
        assert_eq!(refused["code"], 400);
        assert_eq!(
            refused["message"],
            "admission webhook \"a.example.com\" denied the request: no"
        );
        let later = json!({"uid": "1", "allowed": false,
            "status": {"code": 429, "reason": "TooManyRequests", "message": "later", "details": {"retryAfterSeconds": 2}}});
        let later = hook.answer("1", &review(later)).unwrap().refused.unwrap();
        assert_eq!(
            (&later["code"], &later["details"]["retryAfterSeconds"]),
            (&json!(429), &json!(2))
        );
        assert!(hook.answer("2", &review(json!({"uid": "1", "allowed": true}))).is_err());
        assert_eq!(
            hook.answer("1", &review(json!({"uid": "1", "allowed": true}))),
            Ok(Answer::default())
        );
    }
}
