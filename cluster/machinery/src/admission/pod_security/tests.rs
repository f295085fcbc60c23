use serde_json::{Value, json};

use super::policy::Policy;
use super::*;

fn labels(pairs: &[(&str, &str)]) -> Value {
    let all = pairs
        .iter()
        .map(|(mode, value)| (format!("pod-security.kubernetes.io/{mode}"), json!(value)));
    Value::Object(all.collect())
}

#[test]
fn labels_are_read_as_kubernetes_reads_them() {
    let modes = |pairs: &[(&str, &str)]| {
        let (policy, errors) = Policy::of(&labels(pairs));
        let texts = [policy.enforce, policy.audit, policy.warn].map(|mode| mode.to_string());
        (texts.join(" "), errors.len())
    };
    for (pairs, expected, wrong) in [
        (&[][..], "privileged:latest privileged:latest privileged:latest", 0),
        // Whoever enforces is warned, too.
        (
            &[("enforce", "baseline")],
            "baseline:latest privileged:latest baseline:latest",
            0,
        ),
        (
            &[("enforce", "restricted"), ("enforce-version", "v1.20")],
            "restricted:v1.20 privileged:latest restricted:v1.20",
            0,
        ),
        (
            &[
                ("enforce", "restricted"),
                ("enforce-version", "v1.20"),
                ("warn-version", "v1.30"),
            ],
            "restricted:v1.20 privileged:latest restricted:v1.30",
            0,
        ),
        (
            &[("enforce", "restricted"), ("warn", "privileged")],
            "restricted:latest privileged:latest privileged:latest",
            0,
        ),
        // What cannot be read is refused, but not warned of.
        (
            &[("enforce", "none"), ("audit", "none"), ("warn", "")],
            "restricted:latest privileged:latest privileged:latest",
            3,
        ),
        (
            &[("enforce-version", "1.20")],
            "privileged:latest privileged:latest privileged:latest",
            1,
        ),
        (
            &[("enforce-version", "v1.01")],
            "privileged:latest privileged:latest privileged:latest",
            1,
        ),
        (
            &[("enforce-version", "v1.0")],
            "privileged:v1.0 privileged:latest privileged:latest",
            0,
        ),
        (
            &[("enforce-version", "v1.")],
            "privileged:latest privileged:latest privileged:latest",
            1,
        ),
        (
            &[("enforce-version", "v1.99999999999999999999")],
            "privileged:latest privileged:latest privileged:latest",
            1,
        ),
    ] {
        assert_eq!(modes(pairs), (expected.to_owned(), wrong), "{pairs:?}");
    }
}

#[test]
fn a_wrong_label_that_was_there_before_is_no_reason_to_refuse_a_change() {
    let namespace = |pairs: &[(&str, &str)]| json!({"metadata": {"name": "n", "labels": labels(pairs)}});
    let (old, new) = (
        namespace(&[("enforce", "none")]),
        namespace(&[("enforce", "none"), ("warn", "baseline")]),
    );
    assert_eq!(review_namespace(Some(&old), &new), Ok(NamespaceChange::Nothing));
    assert!(review_namespace(None, &new).is_err());
    let other = namespace(&[("enforce", "nothing")]);
    assert!(review_namespace(Some(&old), &other).is_err());
    // Pods of it are held to the strictest level meanwhile.
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
    let verdict = review_pod(&old["metadata"]["labels"], None, &pod);
    assert!(
        verdict
            .refused
            .is_some_and(|why| why.starts_with("violates PodSecurity \"restricted:latest\": "))
    );
}

#[test]
fn nothing_of_a_pod_is_taken_for_granted() {
    let strict = labels(&[("enforce", "restricted")]);
    for spec in [
        json!(null),
        json!([]),
        json!({"containers": "x"}),
        json!({"containers": [null, 3, {"securityContext": 5}]}),
    ] {
        let pod = json!({"metadata": {"annotations": [1]}, "spec": spec});
        let _ = (
            review_pod(&strict, None, &pod),
            review_template(&strict, &pod),
            review_pod(&strict, Some(&json!({})), &pod),
        );
        let mut survey = Survey::new(LevelVersion {
            level: Level::Restricted,
            version: Version::Latest,
        });
        survey.look_at(&pod);
        assert_eq!(survey.checked(), 1);
    }
}

/// The recorded answers have none of it: their server does not know the field without a gate.
#[test]
fn proc_mounts_are_those_of_the_runtime() {
    let container = |kind| json!({"name": kind, "securityContext": {"procMount": kind}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [container("Default"), container("Unmasked")]}});
    let verdict = review_pod(&labels(&[("enforce", "baseline")]), None, &pod);
    let why = "violates PodSecurity \"baseline:latest\": procMount (container \"Unmasked\" must not set \
               securityContext.procMount to \"Unmasked\")";
    assert_eq!(verdict.refused.as_deref(), Some(why));
}
