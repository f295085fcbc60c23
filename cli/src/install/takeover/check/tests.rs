use serde_json::json;

use super::super::definitions::Definitions;
use super::super::seen::{Manager, Pod};
use super::*;

const CRD: &str = "clonesets.apps.kruise.io";

fn seen(image: &str, arguments: &[&str]) -> Seen {
    let deployment = json!({
        "metadata": {"generation": 1},
        "spec": {"replicas": 1, "template": {"spec": {"containers": [{"name": "manager", "image": image, "args": arguments}]}}},
        "status": {"observedGeneration": 1, "updatedReplicas": 1, "readyReplicas": 1},
    });
    let pod = Pod {
        identity: "kruise-a".to_owned(),
        held: false,
        ready: true,
    };
    let crd = json!({"spec": {"conversion": {"strategy": "None"}}, "status": {"storedVersions": ["v1alpha1"]}});
    Seen {
        kruise: Some(Manager {
            deployment,
            pods: vec![pod],
        }),
        holder: "kruise-a_1".to_owned(),
        crds: Definitions([(CRD.to_owned(), crd)].into()),
        ..Seen::default()
    }
}

fn around() -> Surroundings {
    Surroundings {
        kubernetes: "v1.32.10".to_owned(),
        ..Surroundings::default()
    }
}

fn look(seen: &Seen, around: &Surroundings, despite: &[&str]) -> Findings {
    let ours = Ours {
        serving: afloat_api::Serving::default(),
        objects: Vec::new(),
        gates: String::new(),
    };
    let despite: Vec<_> = despite.iter().map(|name| (*name).to_owned()).collect();
    check(seen, around, "kruise-system", &ours, &despite)
}

const IMAGE: &str = "openkruise/kruise-manager:v1.9.1";

#[test]
fn nothing_is_in_the_way_of_a_plain_installation() {
    let arguments = [
        "--enable-leader-election",
        "--leader-election-namespace=kruise-system",
        "--feature-gates=",
    ];
    assert_eq!(look(&seen(IMAGE, &arguments), &around(), &[]), Findings::default());
}

/// Each of these is in the way, and says so in these words.
#[test]
fn what_is_in_the_way() {
    let plain = seen(IMAGE, &[]);
    let with = |change: &dyn Fn(&mut Seen)| {
        let mut seen = plain.clone();
        change(&mut seen);
        seen
    };
    for (seen, words) in [
        (
            with(&|seen| (seen.kruise, seen.holder) = (None, String::new())),
            "there is no Deployment",
        ),
        (
            with(&|seen| seen.crds.0.clear()),
            "there is no CustomResourceDefinition",
        ),
        (with(&|seen| seen.holder = "laptop_1".to_owned()), "is held by laptop_1"),
        (
            with(&|seen| seen.kruise.as_mut().unwrap().pods[0].ready = false),
            "not ready",
        ),
        (
            with(&|seen| {
                seen.kruise.as_mut().unwrap().deployment["spec"]["strategy"] = json!({"type": "Recreate"});
            }),
            "strategy Recreate",
        ),
        (
            with(&|seen| seen.crds.0.get_mut(CRD).unwrap()["status"]["storedVersions"] = json!(["v1"])),
            "does not know: v1",
        ),
        (
            seen(IMAGE, &["--enable-leader-election=false"]),
            "--enable-leader-election=false",
        ),
        (
            seen(IMAGE, &["--leader-election-namespace=other"]),
            "--leader-election-namespace",
        ),
        (seen(IMAGE, &["--leader-election-id=mine"]), "--leader-election-id=mine"),
        (seen(IMAGE, &["--namespace=shop"]), "looks after namespace shop alone"),
        (
            seen(IMAGE, &["--feature-gates=SidecarTerminator=true"]),
            "--despite SidecarTerminator",
        ),
    ] {
        let stops = look(&seen, &around(), &[]).stops;
        assert!(stops.len() == 1 && stops[0].contains(words), "{words}: {stops:?}");
    }
}

#[test]
fn kinds_that_only_kruise_does() {
    let around = Surroundings {
        in_use: [("SidecarSet".to_owned(), 2)].into(),
        ..around()
    };
    let plain = seen(IMAGE, &[]);
    assert!(look(&plain, &around, &[]).stops[0].contains("2 SidecarSet are in use"));
    let agreed = look(&plain, &around, &["SidecarSet"]);
    assert_eq!((agreed.stops.len(), agreed.warnings.len()), (0, 1));
}

#[test]
fn what_to_know() {
    for (image, version, words) in [
        ("kruise-manager:v1.5.0", "v1.32.1", "kruise-manager:v1.5.0"),
        (IMAGE, "v1.20.0", "Kubernetes v1.20.0"),
    ] {
        let around = Surroundings {
            kubernetes: version.to_owned(),
            ..around()
        };
        let warnings = look(&seen(image, &[]), &around, &[]).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{warnings:?}");
    }
}

#[test]
fn a_release_of_helm_would_take_every_cloneset_with_it() {
    let mut seen = seen(IMAGE, &[]);
    let kruise = seen.kruise.as_mut().unwrap();
    kruise.deployment["metadata"]["annotations"] = json!({"meta.helm.sh/release-name": "kruise"});
    let warnings = look(&seen, &around(), &[]).warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("Helm release kruise"),
        "{warnings:?}"
    );
}
