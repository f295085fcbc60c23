//! Pulls from a registry on loopback that is slow, broken, hostile or just right.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // helpers of tests may fail as tests do

mod server;

use std::path::PathBuf;
use std::sync::Arc;

use afloat_runtime::image::ImageStore;
use afloat_runtime::registry::{HostNetwork, Keyring, Mirror, Progress, PullError, Pulled, Puller, RegistryOptions};
use serde_json::json;
use server::{Fault, Login, Registry, architecture, config, digest, gzip, layer, noise};

/// A store in a temporary directory, and a way to pull into it.
struct Node {
    dir: tempfile::TempDir,
    store: Arc<ImageStore>,
    puller: Arc<Puller>,
}

impl Node {
    fn new() -> Self {
        Self::with(RegistryOptions::default())
    }

    fn with(options: RegistryOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(ImageStore::open(&dir.path().join("images")).unwrap());
        let puller = Arc::new(Puller::new(store.clone(), Arc::new(HostNetwork), options));
        Self { dir, store, puller }
    }

    async fn pull(&self, name: &str) -> Result<Pulled, PullError> {
        self.pull_as(name, &Keyring::default()).await
    }

    async fn pull_as(&self, name: &str, keyring: &Keyring) -> Result<Pulled, PullError> {
        self.puller.pull(name, keyring, &Progress::default()).await
    }

    fn entries(&self, of: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.dir.path().join("images").join(of)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// The contents of a file in any layer.
    fn content(&self, path: &str) -> Vec<u8> {
        let layers = self.entries("layers");
        let found = layers
            .iter()
            .find_map(|layer| std::fs::read(layer.join("fs").join(path)).ok());
        found.unwrap_or_else(|| panic!("no layer has {path}"))
    }

    #[track_caller]
    fn left_nothing_behind(&self) {
        assert_eq!(self.entries("tmp"), Vec::<PathBuf>::new());
        assert_eq!(self.entries("leases"), Vec::<PathBuf>::new());
    }
}

fn zipped(files: &[(&str, &[u8])]) -> (Vec<u8>, Vec<u8>) {
    let plain = layer(files);
    let sent = gzip(&plain);
    (plain, sent)
}

fn text(result: Result<Pulled, PullError>) -> String {
    result.expect_err("it must fail").to_string()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..6000 {
        if condition() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("waited in vain for {what}");
}

#[tokio::test]
async fn an_image_by_tag_and_digest_with_layers_of_all_kinds() {
    let (registry, node) = (Registry::start(), Node::new());
    let plain = layer(&[("plain", b"1")]);
    let zstd = layer(&[("zstd", b"3")]);
    let layers = [
        (plain.clone(), plain),
        zipped(&[("gzip", b"2")]),
        (zstd.clone(), zstd::encode_all(&zstd[..], 1).unwrap()),
    ];
    let manifest = registry.image("team/web", "v1", &layers, &["/x"]);
    let name = registry.name("team/web:v1");
    let pulled = node.pull(&name).await.unwrap();
    assert!(!pulled.up_to_date);
    assert_eq!(pulled.image.registry_names, std::slice::from_ref(&name));
    assert_eq!(
        (pulled.image.size_bytes, pulled.image.config.entrypoint.as_slice()),
        (3, &["/x".to_owned()][..])
    );
    for (path, content) in [("plain", "1"), ("gzip", "2"), ("zstd", "3")] {
        assert_eq!(node.content(path), content.as_bytes());
    }
    // Again: a HEAD says that it is the same.
    let before = registry.asked("GET").len();
    assert!(node.pull(&name).await.unwrap().up_to_date);
    assert_eq!(registry.asked("GET").len(), before);
    registry.fault("HEAD", Fault::Status(405, 1));
    assert!(node.pull(&name).await.unwrap().up_to_date, "also where it takes a GET");
    assert_eq!(registry.asked("GET").len(), before + 1);
    // By digest, into another store; and with it in the first one, no layer comes again.
    let by_digest = registry.name(&format!("team/web@{manifest}"));
    assert_eq!(Node::new().pull(&by_digest).await.unwrap().image.id, pulled.image.id);
    let before = registry.asked("/blobs/").len();
    assert_eq!(node.pull(&by_digest).await.unwrap().image.id, pulled.image.id);
    assert_eq!(registry.asked("/blobs/").len(), before + 1, "only the configuration");
    // Another image under the tag.
    registry.image(
        "team/web",
        "v1",
        &[layers[0].clone(), zipped(&[("new", b"4")])],
        &["/x"],
    );
    let newer = node.pull(&name).await.unwrap();
    assert!(!newer.up_to_date && newer.image.id != pulled.image.id);
    assert_eq!(
        node.store.find(&name).unwrap().map(|image| image.id),
        Some(newer.image.id)
    );
    let plain = registry.asked(&digest(&layers[0].1));
    assert_eq!(plain.len(), 2, "once for each store: {plain:?}");
    node.left_nothing_behind();
}

#[tokio::test]
async fn an_index_gives_the_image_for_this_machine_in_dockers_words_too() {
    let (registry, node) = (Registry::start(), Node::new());
    let own = registry.image("web", "own", &[zipped(&[("x", b"own")])], &["/x"]);
    let entry = |digest: &str, architecture: &str| json!({"digest": digest, "size": 1, "platform": {"os": "linux", "architecture": architecture}});
    let index =
        json!({"schemaVersion": 2, "manifests": [entry(&digest(b"other"), "s390x"), entry(&own, architecture())]});
    for (tag, kind) in [
        ("oci", "application/vnd.oci.image.index.v1+json"),
        ("docker", "application/vnd.docker.distribution.manifest.list.v2+json"),
    ] {
        registry.document("web", tag, kind, &index);
        let pulled = node.pull(&registry.name(&format!("web:{tag}"))).await.unwrap();
        assert_eq!(pulled.image.config.entrypoint, ["/x"]);
        assert!(
            node.pull(&registry.name(&format!("web:{tag}")))
                .await
                .unwrap()
                .up_to_date
        );
    }
    let foreign = json!({"schemaVersion": 2, "manifests": [entry(&digest(b"other"), "s390x")]});
    registry.document("web", "foreign", "application/vnd.oci.image.index.v1+json", &foreign);
    let error = text(node.pull(&registry.name("web:foreign")).await);
    assert!(error.contains("only for: linux/s390x"), "{error}");
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_where_it_broke() {
    let (registry, node) = (Registry::start(), Node::new());
    let content = noise(3 << 20, 1);
    let big = zipped(&[("big", &content)]);
    registry.image("web", "v1", std::slice::from_ref(&big), &["/big"]);
    let part = digest(&big.1);
    registry.fault(
        &part,
        Fault::Break {
            after: 1 << 20,
            times: 2,
        },
    );
    node.pull(&registry.name("web:v1")).await.unwrap();
    assert_eq!(node.content("big"), content);
    let asked = registry.asked(&part);
    assert_eq!(asked.len(), 3, "{asked:?}");
    assert_eq!(asked[0].range, None);
    let from = |at: usize| -> u64 {
        let range = asked[at].range.as_deref().expect("a range");
        range
            .trim_start_matches("bytes=")
            .trim_end_matches('-')
            .parse()
            .unwrap()
    };
    assert!(from(1) > 0 && from(2) > from(1), "{asked:?}");
    node.left_nothing_behind();
}

#[tokio::test]
async fn without_ranges_it_begins_anew_and_a_registry_that_only_breaks_is_given_up() {
    let (registry, node) = (Registry::start(), Node::new());
    let content = noise(2 << 20, 2);
    let big = zipped(&[("big", &content)]);
    registry.image("web", "v1", std::slice::from_ref(&big), &["/big"]);
    let part = digest(&big.1);
    registry.fault(&part, Fault::Status(503, 2));
    node.pull(&registry.name("web:v1")).await.unwrap();
    assert_eq!(registry.asked(&part).len(), 3);

    let other = Node::new();
    registry.fault(&part, Fault::Status(503, u32::MAX));
    assert!(matches!(other.pull(&registry.name("web:v1")).await, Err(PullError::Unavailable(e)) if e.contains("503")));
    other.left_nothing_behind();
    registry.fault(&part, Fault::NoRange);
    other.pull(&registry.name("web:v1")).await.unwrap();
    assert_eq!(other.content("big"), content);
}

#[tokio::test]
async fn nothing_counts_that_has_another_digest() {
    let registry = Registry::start();
    let good = zipped(&[("x", b"content")]);
    registry.image("web", "v1", std::slice::from_ref(&good), &["/x"]);
    let name = registry.name("web:v1");
    let config_digest = digest(&config(std::slice::from_ref(&good.0), &["/x"]));
    for part in [digest(&good.1), config_digest, "GET /v2/web/manifests/v1".to_owned()] {
        let node = Node::new();
        registry.mend();
        registry.fault(&part, Fault::Corrupt);
        let error = text(node.pull(&name).await);
        assert!(error.contains("damaged"), "{part}: {error}");
        assert_eq!(node.store.list().unwrap(), []);
        assert_eq!(node.entries("layers").len(), 0);
        node.left_nothing_behind();
        registry.mend();
        node.pull(&name).await.unwrap();
    }
    // The layer is what the manifest says, and not what the configuration says.
    let node = Node::new();
    let wrong = [(layer(&[("y", b"said")]), gzip(&layer(&[("y", b"sent")])))];
    registry.image("web", "wrong", &wrong, &["/y"]);
    let error = text(node.pull(&registry.name("web:wrong")).await);
    assert!(
        error.contains("damaged") && error.contains("configuration says"),
        "{error}"
    );
    node.left_nothing_behind();
    // What is no archive, or one that wants to leave its place.
    let mut hostile = layer(&[("00/00/passwd", b"x")]);
    hostile[..12].copy_from_slice(b"../../passwd");
    // The sum over the header follows its change.
    hostile[148..156].fill(b' ');
    let sum: u32 = hostile[..512].iter().map(|byte| u32::from(*byte)).sum();
    hostile[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    for (tag, bytes) in [("junk", noise(4096, 4)), ("hostile", hostile)] {
        registry.image("web", tag, &[(bytes.clone(), gzip(&bytes))], &["/x"]);
        let error = text(node.pull(&registry.name(&format!("web:{tag}"))).await);
        assert!(error.contains("cannot be unpacked"), "{tag}: {error}");
        node.left_nothing_behind();
    }
    // A layer that is longer than its manifest says has no end that we would wait for.
    let blob = registry.blob(&good.1);
    let config = registry.blob(&config(std::slice::from_ref(&good.0), &["/x"]));
    let short = json!({"schemaVersion": 2, "config": config, "layers": [{"digest": blob["digest"], "size": 3}]});
    registry.document("web", "short", "application/vnd.oci.image.manifest.v1+json", &short);
    let error = text(node.pull(&registry.name("web:short")).await);
    assert!(error.contains("more than its 3 bytes"), "{error}");
}

#[tokio::test]
async fn users_prove_who_they_are_and_nobody_else_is_told() {
    for login in [Login::Basic("ada", "secret"), Login::Bearer("ada", "secret")] {
        let (registry, elsewhere) = (Registry::start(), Registry::start());
        let content = zipped(&[("x", b"1")]);
        registry.image("team/web", "v1", std::slice::from_ref(&content), &["/x"]);
        elsewhere.image("team/web", "v1", std::slice::from_ref(&content), &["/x"]);
        registry.login(login.clone());
        // Blobs lie on another server, as they do with large registries.
        registry.fault("/blobs/", Fault::Redirect(format!("http://{}", elsewhere.address)));
        let name = registry.name("team/web:v1");
        let ring = |password: &str, path: &str| {
            let key = format!("{}{path}", registry.address);
            let config = json!({"auths": {key: {"username": "ada", "password": password}}}).to_string();
            let mut ring = Keyring::default();
            ring.add_config_json(config.as_bytes()).unwrap();
            ring
        };
        let node = Node::new();
        let error = text(node.pull(&name).await);
        assert!(
            error.contains("pull access denied") && error.contains("imagePullSecrets"),
            "{error}"
        );
        assert!(
            text(node.pull_as(&name, &ring("wrong", "")).await).contains("ada") || matches!(login, Login::Basic(..))
        );
        assert!(
            node.pull_as(&name, &ring("secret", "/other")).await.is_err(),
            "for another path"
        );
        node.pull_as(&name, &ring("secret", "/team")).await.unwrap();
        let told = elsewhere.asked("");
        assert!(
            !told.is_empty() && told.iter().all(|asked| asked.authorization.is_none()),
            "{told:?}"
        );
        // Of several, the one that fits.
        let mut both = ring("wrong", "/team");
        both.add_config_json(
            json!({"auths": {registry.address.to_string(): {"username": "ada", "password": "secret"}}})
                .to_string()
                .as_bytes(),
        )
        .unwrap();
        Node::new().pull_as(&name, &both).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let (registry, node) = (Registry::start(), Node::new());
    let missing = node.pull(&registry.name("web:v1")).await;
    assert!(
        matches!(&missing, Err(PullError::Refused(why)) if why.contains("web:v1: not found at registry")),
        "{missing:?}"
    );
    assert!(matches!(node.pull("Not A Name").await, Err(PullError::InvalidName(_))));
    let gone = Registry::start();
    let name = gone.name("web:v1");
    let address = gone.address;
    drop(gone);
    until("the server to be gone", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    let error = node.pull(&name).await;
    assert!(
        matches!(&error, Err(PullError::Unavailable(why)) if why.contains(&address.to_string())),
        "{error:?}"
    );
    registry.document(
        "art",
        "v1",
        "application/vnd.oci.image.manifest.v1+json",
        &json!({"schemaVersion": 2, "config": registry.blob(b"{}"), "layers": [registry.blob(b"x")]}),
    );
    let error = text(node.pull(&registry.name("art:v1")).await);
    assert!(error.contains("no container image"), "{error}");
    registry.document(
        "old",
        "v1",
        "application/vnd.docker.distribution.manifest.v1+json",
        &json!({"schemaVersion": 1}),
    );
    assert!(text(node.pull(&registry.name("old:v1")).await).contains("version 1"));
}

#[tokio::test]
async fn what_several_want_is_fetched_once_and_goes_on_when_one_gives_up() {
    let (registry, node) = (Registry::start(), Arc::new(Node::new()));
    let shared = zipped(&[("shared", &noise(1 << 20, 3)[..])]);
    let part = digest(&shared.1);
    for repository in ["one", "two", "three"] {
        let own = zipped(&[(repository, repository.as_bytes())]);
        registry.image(repository, "v1", &[shared.clone(), own], &["/x"]);
    }
    registry.fault(&part, Fault::Hold);
    let start = |repository: &str| {
        let (node, name) = (node.clone(), registry.name(&format!("{repository}:v1")));
        tokio::spawn(async move { node.pull(&name).await })
    };
    let first = start("one");
    until("the first to ask for the layer", || registry.asked(&part).len() == 1).await;
    let (second, third) = (start("two"), start("three"));
    // Their own layers come meanwhile: one that hangs stops no other.
    until("the others' own layers", || node.entries("layers").len() == 3).await;
    assert_eq!(registry.asked(&part).len(), 1, "the others wait for it");
    first.abort();
    until("another to go on", || registry.asked(&part).len() == 2).await;
    registry.release();
    assert!(second.await.unwrap().is_ok() && third.await.unwrap().is_ok());
    assert_eq!(registry.asked(&part).len(), 2);
    assert!(first.await.is_err_and(|e| e.is_cancelled()));
    node.left_nothing_behind();
    assert_eq!(node.store.list().unwrap().len(), 2);
}

#[tokio::test]
async fn mirrors_are_asked_first_and_the_registry_after_them() {
    let (registry, mirror) = (Registry::start(), Registry::start());
    let options = |registry: &Registry| RegistryOptions {
        mirrors: vec![Mirror::parse(&format!("{}=http://{}", registry.address, mirror.address)).unwrap()],
        ..RegistryOptions::default()
    };
    mirror.image("web", "v1", &[zipped(&[("x", b"mirror")])], &["/x"]);
    registry.image("web", "v2", &[zipped(&[("x", b"registry")])], &["/x"]);
    let node = Node::with(options(&registry));
    let pulled = node.pull(&registry.name("web:v1")).await.unwrap();
    assert_eq!(pulled.image.names, [registry.name("web:v1")], "under its own name");
    assert_eq!(registry.asked("web").len(), 0);
    node.pull(&registry.name("web:v2")).await.unwrap();
    assert!(!mirror.asked("web/manifests/v2").is_empty());
}

#[tokio::test]
async fn tls_is_checked_also_on_loopback() {
    let pair = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let key = tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der());
    let tls = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key.into())
        .unwrap();
    let registry = Registry::start_with(Some(Arc::new(tls)));
    registry.image("web", "v1", &[zipped(&[("x", b"1")])], &["/x"]);
    let error = Node::new().pull(&registry.name("web:v1")).await;
    assert!(
        matches!(&error, Err(PullError::Unavailable(why)) if why.contains("certificate")),
        "{error:?}"
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, pair.cert.pem()).unwrap();
    let trusting = RegistryOptions {
        authorities: vec![file.clone()],
        ..RegistryOptions::default()
    };
    Node::with(trusting.clone())
        .pull(&registry.name("web:v1"))
        .await
        .unwrap();
    std::fs::write(&file, "no certificate").unwrap();
    assert!(text(Node::with(trusting).pull(&registry.name("web:v1")).await).contains("ca.pem"));
}

#[tokio::test]
async fn what_was_made_here_under_a_name_is_known_from_what_was_pulled() {
    let (registry, node) = (Registry::start(), Node::new());
    registry.image("web", "v1", &[zipped(&[("x", b"1")])], &["/x"]);
    let name = registry.name("web:v1");
    node.pull(&name).await.unwrap();
    let file = node.dir.path().join("file");
    std::fs::write(&file, "made here").unwrap();
    let spec = afloat_runtime::image::BuildSpec {
        name: name.clone(),
        files: vec![(file, "/file".into())],
        ..Default::default()
    };
    node.store.build(&spec).unwrap();
    let found = node.store.find(&name).unwrap().unwrap();
    assert_eq!((found.names, found.registry_names), (vec![name.clone()], vec![]));
    // Nobody has the first one's layers any more but the image itself, which lost its name.
    let nameless = node
        .store
        .list()
        .unwrap()
        .into_iter()
        .find(|image| image.names.is_empty())
        .unwrap();
    assert!(node.store.is_pulled(&nameless).unwrap());
    assert!(node.store.remove(&nameless.id).unwrap());
    assert_eq!(node.store.prune(&[]).unwrap(), 1);
    // Asked for expressly, the registry's comes back.
    assert!(!node.pull(&name).await.unwrap().up_to_date);
    assert_eq!(node.store.find(&name).unwrap().unwrap().registry_names, [name]);
}

#[tokio::test]
async fn layers_of_a_pull_under_way_are_not_tidied_away() {
    let (registry, node) = (Registry::start(), Arc::new(Node::new()));
    let (first, second) = (zipped(&[("first", b"1")]), zipped(&[("second", b"2")]));
    registry.fault(&digest(&second.1), Fault::Hold);
    registry.image("web", "v1", &[first, second], &["/x"]);
    let (puller, name) = (node.clone(), registry.name("web:v1"));
    let pull = tokio::spawn(async move { puller.pull(&name).await });
    until("the first layer", || node.entries("layers").len() == 1).await;
    assert_eq!(node.store.prune(&[]).unwrap(), 0);
    registry.release();
    pull.await.unwrap().unwrap();
    assert_eq!(node.content("first"), b"1");
}
