//! Pulls by the node's runtime: containerd, and a registry on loopback that misbehaves.

use std::sync::atomic::Ordering;
use std::time::Duration;

use afloat_agent::cri::{Cri, Endpoint};
use afloat_agent::runtime::{LocalImage, NodeRuntime as _, Progress, Pull, PullError};
use serde_json::json;

use super::runtime::containerd::Containerd;
use crate::registry::{Fault, Login, Registry, config, layer, noise};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image with one layer of noise, with the media types that containerd wants. Gives the layer's digest and the manifest's.
fn publish(registry: &Registry, repository: &str, bytes: usize) -> (String, String) {
    let layer = layer(&[("noise", &noise(bytes, 7))]);
    let kind = |kind: &str, bytes: &[u8]| {
        let mut blob = registry.blob(bytes);
        blob["mediaType"] = json!(format!("application/vnd.oci.image.{kind}"));
        blob
    };
    let config = kind("config.v1+json", &config(std::slice::from_ref(&layer), &["/noise"]));
    let layer = kind("layer.v1.tar", &layer);
    let digest = layer["digest"].as_str().unwrap_or_default().to_owned();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]});
    (digest, registry.document(repository, "v1", MANIFEST, &manifest))
}

fn wanted(reference: &str) -> Pull {
    Pull {
        reference: reference.to_owned(),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        ..Pull::default()
    }
}

async fn pull(runtime: &Cri, pull: &Pull) -> Result<LocalImage, PullError> {
    let limited = tokio::time::timeout(Duration::from_secs(60), runtime.pull(pull, &Progress::default())).await;
    limited.expect("in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn images_come_or_it_is_told_why_not() {
    let Some(containerd) = Containerd::start("test.local/pause:1") else {
        return;
    };
    let runtime = Cri::new(Endpoint::Socket(containerd.socket()), "/proc".as_ref());
    let registry = Registry::start();
    let (_, digest) = publish(&registry, "team/web", 1000);
    let name = registry.name("team/web:v1");
    let image = pull(&runtime, &wanted(&name)).await.expect("it comes");
    assert!(image.answers(&name), "{image:?}");
    assert_eq!(image.digest_of(&name), Some(&*digest));
    let by_digest = registry.name(&format!("team/web@{digest}"));
    assert_eq!(
        pull(&runtime, &wanted(&by_digest)).await.map(|same| same.id),
        Ok(image.id)
    );

    let absent = pull(&runtime, &wanted(&registry.name("team/none:v1"))).await;
    assert!(
        matches!(&absent, Err(PullError::Refused(text)) if text.contains("team/none:v1")),
        "{absent:?}"
    );
    let wrong = pull(&runtime, &wanted("Not A Name")).await;
    assert!(matches!(wrong, Err(PullError::InvalidName(_))), "{wrong:?}");

    publish(&registry, "closed/web", 1000);
    registry.login(Login::Basic("anna", "right"));
    let mut closed = wanted(&registry.name("closed/web:v1"));
    let nobody = pull(&runtime, &closed).await;
    assert!(matches!(nobody, Err(PullError::Refused(_))), "{nobody:?}");
    for (user, password, comes) in [("anna", "wrong", false), ("anna", "right", true)] {
        let auths = json!({"auths": {registry.address.to_string(): {"username": user, "password": password}}});
        closed
            .keyring
            .add_config_json(auths.to_string().as_bytes())
            .expect("a keyring");
        let told = pull(&runtime, &closed).await;
        assert_eq!(told.is_ok(), comes, "{told:?}");
        let text = format!("{told:?}");
        assert!(
            !text.contains("wrong") && !text.contains("right"),
            "no password is told: {text}"
        );
    }

    let (layer, _) = publish(&registry, "broken/web", 500_000);
    registry.fault(&layer, Fault::Status(503, 1000));
    let mut broken = wanted(&registry.name("broken/web:v1"));
    broken.keyring = closed.keyring.clone();
    let away = pull(&runtime, &broken).await;
    assert!(matches!(away, Err(PullError::Unavailable(_))), "{away:?}");
    registry.mend();
    pull(&runtime, &broken).await.expect("it comes once the registry works");

    drop(registry);
    let mut gone = broken;
    gone.reference = gone.reference.replace("broken", "gone");
    let gone = pull(&runtime, &gone).await;
    assert!(matches!(gone, Err(PullError::Unavailable(_))), "{gone:?}");
}

/// Whoever drops a pull ends it, and meanwhile sees how far it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_tells_its_progress_and_can_be_given_up() {
    let Some(containerd) = Containerd::start("test.local/pause:1") else {
        return;
    };
    let runtime = Cri::new(Endpoint::Socket(containerd.socket()), "/proc".as_ref());
    let registry = Registry::start();
    let (layer, _) = publish(&registry, "team/web", 2_000_000);
    registry.fault(&layer, Fault::Hold);
    let image = wanted(&registry.name("team/web:v1"));
    let progress = Progress::default();
    {
        let pulling = runtime.pull(&image, &progress);
        tokio::pin!(pulling);
        let seen = async {
            while progress.total.load(Ordering::Relaxed) == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            ended = &mut pulling => panic!("it waits for its layer: {ended:?}"),
            () = seen => {}
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("no progress: {}", containerd.log()),
        }
        assert!(progress.total.load(Ordering::Relaxed) > 0);
    }
    assert_eq!(runtime.image(&image.reference).await, Ok(None), "given up");
    registry.mend();
    registry.release();
    assert!(pull(&runtime, &image).await.is_ok(), "another one brings it");
}
