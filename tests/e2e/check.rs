//! `afloat check` from the command line, and that what it predicts is so.

mod folders;

use serde_json::Value;

use crate::cluster::{Cluster, afloat};

const LOSSY: &str = "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: app, image: 'web:v1', ports: [{containerPort: 8080}]}
";

/// Exit code, standard output and standard error.
fn check(arguments: &[&str], input: &str) -> (i32, String, String) {
    afloat(&[&["check"], arguments].concat(), input)
}

fn rules(report: &str) -> Vec<String> {
    let report: Value = serde_json::from_str(report).expect("JSON");
    let findings = report["findings"].as_array().expect("findings").iter();
    findings
        .map(|finding| finding["rule"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn formats_and_exit_codes() {
    let (code, text, _) = check(&["-f", "-"], LOSSY);
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("Deployment/web") && text.contains("error [no-readiness-probe]"),
        "{text}"
    );
    assert!(
        text.contains("at line 16, spec.template.spec.containers[0].readinessProbe"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "no colour in a pipe: {text}");

    let (code, text, _) = check(&["-f", "-", "--format", "json", "--fail-on", "never"], LOSSY);
    assert_eq!(
        (code, rules(&text).as_slice()),
        (0, &["no-readiness-probe".into(), "recreate-without-drain".into()][..])
    );
    let (code, text, _) = check(
        &["-f", "-", "--format", "json", "--ignore", "no-readiness-probe"],
        LOSSY,
    );
    assert_eq!(
        (code, rules(&text).as_slice()),
        (0, &["recreate-without-drain".into()][..])
    );
    let (code, ..) = check(
        &["-f", "-", "--fail-on", "warning", "--ignore", "no-readiness-probe"],
        LOSSY,
    );
    assert_eq!(code, 1);

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("base")).unwrap();
    std::fs::write(dir.path().join("base/web.yaml"), LOSSY).unwrap();
    std::fs::write(
        dir.path().join("kustomization.yaml"),
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [base/web.yaml]\n",
    )
    .unwrap();
    let (code, text, _) = check(&["-f", dir.path().to_str().unwrap(), "--format", "sarif"], "");
    let log: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((code, &log["version"]), (1, &"2.1.0".into()));
    let result = &log["runs"][0]["results"][0];
    assert_eq!(result["ruleId"], "no-readiness-probe");
    let rule = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
    assert_eq!(
        log["runs"][0]["tool"]["driver"]["rules"][rule]["id"],
        "no-readiness-probe"
    );
    let place = &result["locations"][0]["physicalLocation"];
    assert!(
        place["artifactLocation"]["uri"]
            .as_str()
            .unwrap()
            .ends_with("base/web.yaml")
    );
    assert_eq!(place["region"]["startLine"], 16);
}

#[test]
fn lists_and_json_are_read() {
    let list = r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},
        "spec":{"template":{"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"a"}]}}}}]}"#;
    let (code, text, _) = check(&["-f", "-", "--format", "json"], list);
    assert_eq!((code, rules(&text).as_slice()), (1, &["no-grace".into()][..]));
}

#[test]
fn bad_input_is_one_line() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a}]}\n";
    for (input, words) in [
        (format!("{pod}---\na: [b\n"), &["document 2", "line 6"][..]),
        (format!("{pod}---\nkind: Pod\n"), &["document 2", "apiVersion"]),
        (pod.replace("[{name: a}]", "4"), &["document 1", "spec.containers"]),
        (pod.replace("{name: a}\n", "{}\n"), &["document 1", "metadata.name"]),
        (
            pod.replace("{name: a}\n", "{name: a, name: b}\n"),
            &["document 1", "name"],
        ),
        ("- a\n".to_owned(), &["document 1", "kind"]),
        (String::new(), &["no objects"]),
    ] {
        let (code, _, error) = check(&["-f", "-"], &input);
        assert_eq!(code, 2, "{input}: {error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        for word in words {
            assert!(error.contains(word), "{word} in {error}");
        }
    }
    for (arguments, word) in [
        (&["-f", "/no/such/file"][..], "/no/such/file"),
        (&[], "-f FILE"),
        (&["-f", "-", "-A"], "say one"),
        (&["--kubeconfig", "/no/such/file"], "/no/such/file"),
        (&["-f", "-", "--data-dir", "/no/such/dir"], "/no/such/dir"),
        (&["--explain", "sail"], "--rules"),
        (&["--policy", "-f", "-"], "--filename"),
        (&["--policy", "-A"], "--all-namespaces"),
        (&["--policy", "--rule", "last-endpoint"], "the Services"),
        (&["--policy", "--rule", "no-grace", "--ignore", "no-grace"], "--ignore"),
        (
            &["--policy", "--action", "warn", "--action", "deny"],
            "exclude each other",
        ),
        (
            &["--policy", "--action", "shout"],
            "[possible values: Warn, Deny, Audit]",
        ),
        (&["--policy", "--namespace-selector", "a=b c"], "--namespace-selector"),
        (&["--policy", "--namespace-selector", ""], "all namespaces"),
        (&["--action", "Warn"], "--policy"),
    ] {
        let (code, _, error) = check(arguments, pod);
        assert_eq!(code, 2, "{arguments:?}: {error}");
        assert!(error.contains(word), "{arguments:?}: {error}");
    }
}

#[test]
fn rules_are_chosen() {
    let one = ["-f", "-", "--format", "json", "--rule", "recreate-without-drain"];
    let (code, text, _) = check(&one, LOSSY);
    assert_eq!(
        (code, rules(&text).as_slice()),
        (0, &["recreate-without-drain".into()][..])
    );
    let (_, text, _) = check(&[&one[..], &["--ignore", "recreate-without-drain"]].concat(), LOSSY);
    assert!(rules(&text).is_empty(), "{text}");
}

#[test]
fn policies_are_printed() {
    let (code, text, _) = check(&["--policy"], "");
    assert_eq!(code, 0);
    let (_, list, _) = check(&["--rules"], "");
    for id in list.lines().map(|line| line.split_whitespace().next().unwrap()) {
        let policy = text.contains(&format!("policyName: afloat-{id}\n"));
        let reason = text.contains(&format!("#   {id}: "));
        assert!(policy != reason, "{id} has either a policy or a reason why not");
    }
    // What it is for an API server to take them: tests/operator.
    let chosen = [
        "--rule",
        "no-grace",
        "--action",
        "Audit",
        "--action",
        "deny",
        "--namespace-selector",
        "team in (a,b),!x",
    ];
    let (code, text, _) = check(&[&["--policy"], &chosen[..]].concat(), "");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).expect("YAML");
    assert_eq!((code, objects.len()), (0, 2), "{text}");
    let spec = &objects[1]["spec"];
    assert_eq!(spec["validationActions"], serde_json::json!(["Deny", "Audit"]));
    let selector = &spec["matchResources"]["namespaceSelector"]["matchExpressions"];
    assert_eq!(selector[0]["values"], serde_json::json!(["a", "b"]));
    assert_eq!(selector[1], serde_json::json!({"key": "x", "operator": "DoesNotExist"}));
}

#[test]
fn rules_are_listed_and_explained() {
    let (_, list, _) = check(&["--rules"], "");
    assert!(list.lines().count() >= 20, "{list}");
    for line in list.lines() {
        let id = line.split_whitespace().next().unwrap();
        let (code, text, _) = check(&["--explain", id], "");
        assert!(code == 0 && text.starts_with(id) && text.contains("Fix: "), "{text}");
    }
}

/// A live namespace and the images of a cluster; and the preStop that the rule says cannot run does fail.
#[test]
fn a_running_cluster_is_looked_at() {
    let Some(cluster) = Cluster::boot(1) else { return };
    cluster.build_images();
    let manifest = LOSSY.replace(
        "image: 'web:v1', ",
        "image: 'web:v1', lifecycle: {preStop: {exec: {command: [sh, -c, sleep 5]}}}, ",
    );
    let dir = cluster.dir().to_str().unwrap().to_owned();
    let (_, text, _) = check(&["-f", "-", "--format", "json", "--data-dir", &dir], &manifest);
    assert!(rules(&text).contains(&"prestop-program-missing".to_owned()), "{text}");

    cluster.apply(&manifest);
    cluster.wait("two pods", &["deployment", "web"], |web| {
        web["status"]["readyReplicas"] == 2
    });
    let kubeconfig = cluster.dir().join("kubeconfig");
    let live = [
        "--kubeconfig",
        kubeconfig.to_str().unwrap(),
        "-n",
        "default",
        "--format",
        "json",
    ];
    let (code, text, error) = check(&live, "");
    assert_eq!(code, 1, "{error}");
    // Once, of the Deployment, and not again of its ReplicaSet and pods.
    assert_eq!(
        rules(&text).iter().filter(|rule| *rule == "no-readiness-probe").count(),
        1,
        "{text}"
    );

    cluster.kubectl(&["delete", "deployment", "web"]);
    cluster.wait("the failure that was predicted", &["events"], |events| {
        let events = events["items"].as_array().into_iter().flatten();
        events.into_iter().any(|event| event["reason"] == "FailedPreStopHook")
    });
}
