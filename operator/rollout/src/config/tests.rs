use proptest::prelude::*;
use serde_json::{Value, json};

use super::reads::SourceKind;
use super::stamp::{changes, sentence};
use super::*;

fn config_map(name: &str) -> Source {
    let kind = SourceKind::ConfigMap;
    Source {
        kind,
        name: name.to_owned(),
    }
}

fn secret(name: &str) -> Source {
    let kind = SourceKind::Secret;
    Source {
        kind,
        name: name.to_owned(),
    }
}

fn there(values: &[(&str, &str)]) -> Result<Content, String> {
    Ok(Content::of(
        "",
        values.iter().map(|(key, value)| (*key, value.as_bytes())),
    ))
}

/// `app` takes a key of `web` and all of `tls`, `log` mounts `web` whole, `idle` reads nothing.
fn template() -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {
        "containers": [
            {"name": "app", "image": "app:1",
             "env": [{"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "web", "key": "mode"}}}],
             "envFrom": [{"secretRef": {"name": "tls", "optional": true}}]},
            {"name": "log", "image": "log:1", "volumeMounts": [{"name": "files", "mountPath": "/etc/web", "subPath": "mode"}]},
            {"name": "idle", "image": "idle:1"},
        ],
        "volumes": [{"name": "files", "configMap": {"name": "web"}}, {"name": "unused", "secret": {"secretName": "other"}}]}})
}

fn known(web: &[(&str, &str)], tls: Option<&[(&str, &str)]>) -> Known {
    let tls = tls.map_or(Ok(Content::Missing), there);
    [(config_map("web"), there(web)), (secret("tls"), tls)].into()
}

fn after(last: &Value, known: &Known) -> Value {
    stamped(&template(), Some(last), known).template
}

fn changed(old: &Value, new: &Value) -> Vec<String> {
    changes(old, new).into_keys().collect()
}

#[test]
fn every_way_to_read_is_found() {
    let template = json!({"spec": {
        "initContainers": [{"name": "first", "envFrom": [{"configMapRef": {"name": "a"}}]}],
        "containers": [{"name": "app",
            "env": [{"name": "A", "value": "b"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "b", "key": "k"}}},
                    {"name": "D", "valueFrom": {"secretKeyRef": {"name": "b", "key": "o", "optional": true}}}],
            "volumeMounts": [{"name": "p", "mountPath": "/p"}, {"name": "s", "mountPath": "/s"}, {"name": "e", "mountPath": "/e"}]}],
        "volumes": [
            {"name": "e", "emptyDir": {}},
            {"name": "s", "secret": {"secretName": "c", "optional": true, "items": [{"key": "x", "path": "y"}]}},
            {"name": "p", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}}, {"configMap": {"name": "d"}}, {"secret": {"name": "e", "optional": true}}]}}]}});
    let all = reads(&template);
    assert_eq!(
        all["first"],
        [(
            config_map("a"),
            Read {
                whole: true,
                required: true,
                ..Read::default()
            }
        )]
        .into()
    );
    let app = &all["app"];
    let keys = |source: &Source| {
        let read = &app[source];
        (read.whole, read.required, read.keys.clone())
    };
    assert_eq!(
        keys(&secret("b")),
        (false, true, [("k".into(), true), ("o".into(), false)].into())
    );
    assert_eq!(keys(&secret("c")), (false, false, [("x".into(), false)].into()));
    assert_eq!(keys(&config_map("d")), (true, true, [].into()));
    assert_eq!(keys(&secret("e")), (true, false, [].into()));
    assert_eq!(app.len(), 4);
}

#[test]
fn what_is_told_first_restarts_nothing_and_what_changes_restarts_who_reads_it() {
    let plain = template();
    let one = after(&plain, &known(&[("mode", "a"), ("more", "1")], Some(&[("key", "s")])));
    assert!(changes(&plain, &one).is_empty(), "it was turned on");
    assert!(changes(&one, &plain).is_empty(), "it was turned off");
    let annotations = one["metadata"]["annotations"].as_object().unwrap();
    let keys: Vec<_> = annotations.keys().collect();
    assert_eq!(keys, ["config.afloat.dev/app", "config.afloat.dev/log"]);

    let other_key = after(&one, &known(&[("mode", "a"), ("more", "2")], Some(&[("key", "s")])));
    assert_eq!(changed(&one, &other_key), ["log"], "app reads only the other key");
    let both = after(
        &other_key,
        &known(&[("mode", "b"), ("more", "2")], Some(&[("key", "s")])),
    );
    assert_eq!(changed(&other_key, &both), ["app", "log"]);
    assert_eq!(
        sentence(&changes(&other_key, &both)).unwrap(),
        "ConfigMap web changed, read by containers app, log"
    );
    let gone = after(&both, &known(&[("mode", "b"), ("more", "2")], None));
    assert_eq!(changed(&both, &gone), ["app"], "a Secret that may be missing is gone");
}

#[test]
fn pods_from_before_it_was_turned_on_are_not_forgotten() {
    // A partition kept them at a revision that says nothing of their ConfigMaps, while those changed.
    let plain = template();
    let one = after(&plain, &known(&[("mode", "a")], None));
    let two = after(&one, &known(&[("mode", "b")], None));
    assert_eq!(changed(&plain, &two), ["app", "log"]);
    let back = after(&two, &known(&[("mode", "a")], None));
    assert_eq!(back, one, "what was taken back is the revision from before");
    assert!(changes(&plain, &back).is_empty());
}

#[test]
fn what_cannot_be_told_stays_as_it_was() {
    let one = after(&template(), &known(&[("mode", "a")], None));
    for (web, word) in [
        (Ok(Content::Missing), "ConfigMap web is missing"),
        (there(&[("other", "a")]), "key \"mode\" of ConfigMap web is missing"),
        (Err("no answer".to_owned()), "no answer"),
    ] {
        let mut known = known(&[("mode", "a")], None);
        known.insert(config_map("web"), web);
        let stamped = stamped(&template(), Some(&one), &known);
        assert!(stamped.lacks[0].contains(word), "{:?}", stamped.lacks);
        let changed = changed(&one, &stamped.template);
        assert!(!changed.contains(&"app".to_owned()), "{changed:?}");
    }
    let nothing = stamped(&template(), Some(&one), &Known::new());
    assert_eq!(
        (nothing.template, nothing.lacks),
        (one, vec![]),
        "nobody has looked yet"
    );
}

#[test]
fn what_is_secret_cannot_be_guessed_from_its_digest() {
    let read = Read {
        whole: true,
        ..Read::default()
    };
    let digest = |salt| Content::of(salt, [("k", &b"guess"[..])]).digest(&secret("s"), &read);
    assert_ne!(digest("uid-1"), digest("uid-2"));
    assert_eq!(digest("uid-1"), digest("uid-1"));
}

#[test]
fn only_the_one_value_is_a_wish() {
    let meta = |text: &str| ObjectMeta {
        annotations: Some([(names::CONFIG.to_owned(), text.to_owned())].into()),
        ..ObjectMeta::default()
    };
    assert!(wished(&meta("Rollout")));
    assert_eq!(misspelt(&meta("Rollout")), None);
    assert!(!wished(&meta("rollout")));
    assert!(misspelt(&meta("rollout")).unwrap().contains("say Rollout"));
    assert!(!wished(&ObjectMeta::default()));
}

/// A history of contents of one ConfigMap: a value, or that it is missing.
fn history() -> impl Strategy<Value = Vec<Option<u8>>> {
    prop::collection::vec(prop::option::weighted(0.8, 0..4u8), 1..12)
}

proptest! {
    /// However contents change: between any two revisions a container restarts if and only if they differ in what was last known of
    /// what it reads, where a pod from before the first is believed to have read what was known first.
    #[test]
    fn a_container_restarts_if_and_only_if_what_it_reads_is_something_else(history in history()) {
        let mut all = vec![(template(), None)];
        let mut last_known: Option<u8> = None;
        for content in history {
            let mut known = known(&[], None);
            let value = content.map(|value| value.to_string());
            let web = value.as_ref().map_or(Ok(Content::Missing), |value| there(&[("mode", value)]));
            known.insert(config_map("web"), web);
            last_known = content.or(last_known);
            let (last, _) = all.last().unwrap();
            all.push((after(last, &known), last_known));
        }
        let first = all.iter().find_map(|(_, content)| *content);
        for (old, had) in &all {
            for (new, has) in &all {
                let restarts = has.is_some_and(|has| Some(has) != had.or(first));
                let expected: &[&str] = if restarts { &["app", "log"] } else { &[] };
                prop_assert_eq!(changed(old, new), expected);
            }
        }
    }
}
