use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::kinds::Registry;
use crate::{WriteContext, strategy};

fn resource(group: &str, plural: &str) -> Arc<Resource> {
    Registry::builtin().resolve(group, "v1", plural).expect("built in")
}

/// The policy as the API server would store it.
fn stored(kind: &str, spec: Value) -> Result<Value, Vec<crate::FieldError>> {
    let version = "admissionregistration.k8s.io/v1";
    let resource = Registry::builtin().by_kind(version, kind).expect("built in");
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "p"}, "spec": spec});
    let context = WriteContext {
        now: String::new(),
        uid: String::new(),
        suffix: String::new(),
    };
    strategy::prepare_create(&resource, &mut object, &context)?;
    Ok(object)
}

fn with(mut base: Value, change: &Value) -> Value {
    json_patch::merge(&mut base, change);
    base
}

fn rule() -> Value {
    json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE", "UPDATE"]})
}

fn policy() -> Value {
    json!({
        "matchConstraints": {"resourceRules": [rule()]},
        "validations": [{"expression": "object.spec.replicas <= 5"}],
    })
}

/// What a policy, bound for the actions, says of a Deployment that one creates.
fn says(policy: &Value, binding: &Value, object: &Value) -> Verdict {
    let deployments = resource("apps", "deployments");
    let namespace = json!({"metadata": {"name": "shop", "labels": {"team": "shop"}}});
    let request = Request {
        resource: &deployments,
        subresource: "",
        operation: Operation::Create,
        name: "web",
        namespace: Some(&namespace),
        object: Some(object),
        old: None,
        user: "ann",
        groups: &["dev".to_owned()],
        dry_run: false,
    };
    review(policy, binding, &request)
}

fn review(policy: &Value, binding: &Value, request: &Request<'_>) -> Verdict {
    let policy = stored("ValidatingAdmissionPolicy", policy.clone()).expect("a policy");
    let binding = with(json!({"policyName": "p", "validationActions": ["Deny"]}), binding);
    let binding = stored("ValidatingAdmissionPolicyBinding", binding).expect("a binding");
    let mut policies = Policies::default();
    policies.put_binding(&binding);
    policies.put_policy(&policy);
    policies.review(request)
}

fn web(replicas: i64) -> Value {
    json!({"metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}}, "spec": {"replicas": replicas}})
}

/// The denial's message, without the names before it.
fn denial(policy: &Value, object: &Value) -> Option<String> {
    let denied = says(policy, &json!({}), object).denied?;
    let whose = "ValidatingAdmissionPolicy 'p' with binding 'p' denied request: ";
    Some(denied.message.strip_prefix(whose).expect("the names").to_owned())
}

#[test]
fn actions() {
    let told = "failed expression: object.spec.replicas <= 5";
    assert_eq!(denial(&policy(), &web(5)), None);
    assert_eq!(denial(&policy(), &web(6)).as_deref(), Some(told));
    let verdict = says(&policy(), &json!({"validationActions": ["Warn", "Audit"]}), &web(6));
    let whose = "ValidatingAdmissionPolicy 'p' with binding 'p'";
    let expected = Verdict {
        denied: None,
        warnings: vec![format!("Validation failed for {whose}: {told}")],
        audit: vec![format!("{whose}: {told}")],
    };
    assert_eq!(verdict, expected);
    // Bound to another policy, it says nothing.
    assert_eq!(
        says(&policy(), &json!({"policyName": "q"}), &web(6)),
        Verdict::default()
    );
}

#[test]
fn messages_and_reasons() {
    let say = |validation: Value| {
        let base = json!({"expression": "false", "message": " fixed "});
        with(policy(), &json!({"validations": [with(base, &validation)]}))
    };
    for (validation, told) in [
        (json!({}), "fixed"),
        (json!({"message": null}), "failed expression: false"),
        (
            json!({"messageExpression": "'made for ' + request.userInfo.username"}),
            "made for ann",
        ),
        (json!({"messageExpression": "''"}), "fixed"),
        (json!({"messageExpression": "'a\\nb'"}), "fixed"),
        (json!({"messageExpression": "object.spec.missing"}), "fixed"),
    ] {
        assert_eq!(denial(&say(validation), &web(1)).as_deref(), Some(told));
    }
    let denied = |validation| says(&say(validation), &json!({}), &web(1)).denied.expect("denied");
    assert_eq!(denied(json!({})).reason, Reason::Invalid);
    assert_eq!(denied(json!({"reason": "Forbidden"})).reason, Reason::Forbidden);
}

#[test]
fn what_cannot_be_evaluated() {
    let validations = json!([{"expression": "object.spec.missing > 0"}, {"expression": "object.spec.replicas <= 5"}]);
    let policy = with(policy(), &json!({"validations": validations}));
    let message = denial(&policy, &web(1)).expect("failurePolicy is Fail");
    assert!(
        message.starts_with("expression 'object.spec.missing > 0' resulted in error: ") && message.contains("missing"),
        "{message}"
    );
    let lenient = with(policy, &json!({"failurePolicy": "Ignore"}));
    assert_eq!(denial(&lenient, &web(1)), None);
    assert!(denial(&lenient, &web(6)).is_some(), "the others still count");
    let number = with(
        lenient,
        &json!({"failurePolicy": "Fail", "validations": [{"expression": "1 + 1"}]}),
    );
    let message = denial(&number, &web(1)).expect("not a bool");
    assert!(message.contains("must be a bool"), "{message}");
}

#[test]
fn what_costs_too_much() {
    let digits = "[0,1,2,3,4,5,6,7,8,9]";
    let nested = |n: usize| (0..n).fold("true".to_owned(), |inner, at| format!("{digits}.all(x{at}, {inner})"));
    let asked = |expressions: &[String]| {
        let validations: Vec<Value> = expressions.iter().map(|text| json!({"expression": text})).collect();
        denial(&with(policy(), &json!({"validations": validations})), &web(1)).unwrap_or_default()
    };
    let dear = nested(7);
    let told = format!("expression '{dear}' resulted in error: operation cancelled: actual cost limit exceeded");
    assert!(asked(std::slice::from_ref(&dear)).ends_with(&told));
    // Each is cheap enough, and all together are not.
    let many = vec![nested(4); 2_000];
    assert!(asked(&many).ends_with("running out of cost budget, no further validation rules will be run"));
    assert_eq!(asked(&many[..10]), "");
}

#[test]
fn conditions_come_first() {
    let when = |expressions: &[&str], failure: &str| {
        let list: Vec<Value> = (0..)
            .zip(expressions)
            .map(|(i, e)| json!({"name": format!("c{i}"), "expression": e}))
            .collect();
        with(policy(), &json!({"matchConditions": list, "failurePolicy": failure}))
    };
    let broken = "object.spec.missing";
    for (expressions, failure, speaks) in [
        (&["true", "true"][..], "Fail", true),
        (&["true", "false"], "Fail", false),
        (&[broken, "false"], "Fail", false),
        (&[broken, "true"], "Fail", true),
        (&[broken, "true"], "Ignore", false),
    ] {
        let spoke = denial(&when(expressions, failure), &web(6)).is_some();
        assert_eq!(spoke, speaks, "{expressions:?} {failure}");
    }
}

#[test]
fn variables() {
    let variables = json!([
        {"name": "replicas", "expression": "object.spec.replicas"},
        {"name": "broken", "expression": "object.spec.missing"},
        {"name": "double", "expression": "variables.replicas * 2"},
    ]);
    let uses = |expression: &str| {
        let parts = json!({"variables": variables, "validations": [{"expression": expression}]});
        denial(&with(policy(), &parts), &web(3))
    };
    assert_eq!(uses("variables.double == 6"), None);
    // Nobody looks at what is broken.
    assert_eq!(uses("variables.replicas == 3 || variables.broken"), None);
    let message = uses("variables.broken").expect("it is used");
    assert!(message.ends_with("No such key: missing"), "{message}");
    // What expressions see besides.
    for expression in [
        "namespaceObject.metadata.labels.team == 'shop' && request.namespace == 'shop' && request.name == 'web'",
        "oldObject == null && request.operation == 'CREATE' && request.resource.resource == 'deployments'",
        "request.userInfo.groups.exists(group, group == 'dev') && !request.dryRun",
        "dyn(object).spec.replicas == 3 && quantity('1Gi').isGreaterThan(quantity('1Mi'))",
    ] {
        assert_eq!(uses(expression), None);
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table of cases")]
fn which_requests() {
    let (deployments, namespaces) = (resource("apps", "deployments"), resource("", "namespaces"));
    let shop = json!({"metadata": {"name": "shop", "labels": {"team": "shop"}}});
    let object = web(6);
    let create = Request {
        resource: &deployments,
        subresource: "",
        operation: Operation::Create,
        name: "web",
        namespace: Some(&shop),
        object: Some(&object),
        old: None,
        user: "",
        groups: &[],
        dry_run: false,
    };
    let always = with(policy(), &json!({"validations": [{"expression": "false"}]}));
    let constrained = |change: Value| with(always.clone(), &json!({"matchConstraints": change}));
    let ruled = |change: Value| constrained(json!({"resourceRules": [with(rule(), &change)]}));
    let all = json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "operations": ["*"]});
    let status = Request {
        subresource: "status",
        ..create
    };
    let delete = Request {
        operation: Operation::Delete,
        object: None,
        old: Some(&object),
        ..create
    };
    let namespace = Request {
        resource: &namespaces,
        namespace: None,
        object: Some(&shop),
        name: "shop",
        ..create
    };
    for (policy, binding, request, fits) in [
        (ruled(json!({})), json!({}), create, true),
        (ruled(json!({})), json!({}), delete, false),
        (ruled(json!({})), json!({}), status, false),
        (ruled(json!({"operations": ["DELETE"]})), json!({}), delete, true),
        (ruled(json!({"resources": ["*/*"]})), json!({}), status, true),
        (ruled(json!({"resources": ["deployments/*"]})), json!({}), create, true),
        (
            ruled(json!({"resources": ["*/scale", "*/status"]})),
            json!({}),
            status,
            true,
        ),
        (ruled(json!({"resources": ["*"]})), json!({}), status, false),
        (ruled(json!({"resources": ["statefulsets"]})), json!({}), create, false),
        (ruled(json!({"apiGroups": [""]})), json!({}), create, false),
        (ruled(json!({"apiVersions": ["v1beta1"]})), json!({}), create, true),
        (
            with(
                ruled(json!({"apiVersions": ["v1beta1"]})),
                &json!({"matchConstraints": {"matchPolicy": "Exact"}}),
            ),
            json!({}),
            create,
            false,
        ),
        (ruled(json!({"resourceNames": ["other"]})), json!({}), create, false),
        (ruled(json!({"scope": "Cluster"})), json!({}), create, false),
        (ruled(all.clone()), json!({}), namespace, true),
        (
            constrained(json!({"excludeResourceRules": [rule()]})),
            json!({}),
            create,
            false,
        ),
        (
            constrained(json!({"namespaceSelector": {"matchLabels": {"team": "bank"}}})),
            json!({}),
            create,
            false,
        ),
        (
            constrained(json!({"objectSelector": {"matchLabels": {"app": "db"}}})),
            json!({}),
            create,
            false,
        ),
        (
            with(
                ruled(all),
                &json!({"matchConstraints": {"namespaceSelector": {"matchLabels": {"team": "bank"}}}}),
            ),
            json!({}),
            namespace,
            false,
        ),
        (
            always.clone(),
            json!({"matchResources": {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "Exists"}]}}}),
            create,
            true,
        ),
        (
            always.clone(),
            json!({"matchResources": {"resourceRules": [with(rule(), &json!({"resources": ["statefulsets"]}))]}}),
            create,
            false,
        ),
    ] {
        let denied = review(&policy, &binding, &request).denied.is_some();
        assert_eq!(denied, fits, "{policy:#} {binding} {request:?}");
    }
    assert!(!Policies::default().look_at(&deployments));
}

#[test]
fn a_policy_is_compiled_when_it_changes_and_at_no_other_time() {
    let named = |name: &str, mut spec: Value, status: i64| {
        spec["failurePolicy"] = "Fail".into();
        json!({"metadata": {"name": name, "generation": status}, "spec": spec, "status": {"observedGeneration": status}})
    };
    let mut policies = Policies::default();
    policies.put_policy(&named("a", policy(), 1));
    policies.put_policy(&named("b", policy(), 1));
    let before = policies.clone();
    let same = |policies: &Policies, name: &str| Arc::ptr_eq(&policies.policies[name], &before.policies[name]);
    policies.put_policy(&named("a", policy(), 2));
    policies
        .put_binding(&json!({"metadata": {"name": "x"}, "spec": {"policyName": "a", "validationActions": ["Deny"]}}));
    assert!(same(&policies, "a") && same(&policies, "b"));
    let other = with(policy(), &json!({"validations": [{"expression": "false"}]}));
    policies.put_policy(&named("a", other, 2));
    assert!(!same(&policies, "a") && same(&policies, "b"));
    let deployments = resource("apps", "deployments");
    assert!(policies.look_at(&deployments) && !before.look_at(&deployments));
    policies.remove_policy("a");
    assert!(
        !policies.look_at(&deployments),
        "what is bound to no policy does nothing"
    );
    policies.put_policy(&named("a", policy(), 3));
    policies.remove_binding("x");
    assert!(
        !policies.look_at(&deployments),
        "a policy without a binding does nothing"
    );
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table of cases")]
fn bad_policies_are_refused() {
    let refused = |kind: &str, spec: Value| -> Vec<String> {
        let errors = stored(kind, spec).expect_err("it is bad");
        errors
            .into_iter()
            .map(|error| format!("{}: {}", error.field, error.message))
            .collect()
    };
    for (change, words) in [
        (json!({"validations": []}), "spec.validations: Required value"),
        (
            json!({"matchConstraints": null}),
            "spec.matchConstraints: Required value",
        ),
        (
            json!({"matchConstraints": {"resourceRules": []}}),
            "spec.matchConstraints.resourceRules: Required value",
        ),
        (
            json!({"matchConstraints": {"resourceRules": [with(rule(), &json!({"operations": ["WRITE"]}))]}}),
            "spec.matchConstraints.resourceRules[0].operations[0]: Unsupported value",
        ),
        (
            json!({"failurePolicy": "Maybe"}),
            "spec.failurePolicy: Unsupported value",
        ),
        (
            json!({"validations": [{"expression": "object."}]}),
            "spec.validations[0].expression: Invalid value",
        ),
        (
            json!({"validations": [{"message": "a"}]}),
            "spec.validations[0].expression: Required value",
        ),
        (
            json!({"validations": [{"expression": "true", "message": "a\nb"}]}),
            "must not contain line breaks",
        ),
        (
            json!({"validations": [{"expression": "true", "reason": "Why"}]}),
            "spec.validations[0].reason: Unsupported value",
        ),
        (
            json!({"validations": [{"expression": "params.a"}]}),
            "undeclared reference to 'params'",
        ),
        (
            json!({"validations": [{"expression": "authorizer.group('').resource('pods').check('get').allowed()"}]}),
            "undeclared reference to 'authorizer'",
        ),
        (
            json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}),
            "spec.paramKind: Forbidden",
        ),
        (
            json!({"variables": [{"name": "a-b", "expression": "1"}]}),
            "spec.variables[0].name: Invalid value",
        ),
        (
            json!({"variables": [{"name": "a", "expression": "1"}, {"name": "a", "expression": "2"}]}),
            "spec.variables[1].name: Duplicate value",
        ),
        (
            json!({"matchConditions": [{"name": "a b", "expression": "true"}]}),
            "spec.matchConditions[0].name: Invalid value",
        ),
    ] {
        let errors = refused("ValidatingAdmissionPolicy", with(policy(), &change));
        assert!(
            errors.iter().any(|error| error.contains(words)),
            "{words} in {errors:?}"
        );
    }
    for (spec, words) in [
        (json!({}), "spec.policyName: Required value"),
        (json!({"policyName": "p"}), "spec.validationActions: Required value"),
        (
            json!({"policyName": "p", "validationActions": ["Deny", "Warn"]}),
            "must not contain both Deny and Warn",
        ),
        (
            json!({"policyName": "p", "validationActions": ["Shout"]}),
            "spec.validationActions[0]: Unsupported value",
        ),
        (
            json!({"policyName": "p", "validationActions": ["Deny", "Deny"]}),
            "spec.validationActions[1]: Duplicate value",
        ),
        (
            json!({"policyName": "p", "validationActions": ["Deny"], "paramRef": {"name": "a"}}),
            "spec.paramRef: Forbidden",
        ),
    ] {
        let errors = refused("ValidatingAdmissionPolicyBinding", spec);
        assert!(
            errors.iter().any(|error| error.contains(words)),
            "{words} in {errors:?}"
        );
    }
}
