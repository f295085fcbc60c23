//! What a registry may say, and what pull secrets may hold.

use proptest::prelude::*;

use super::manifest::{Document, read};
use super::{Keyring, challenge};
use afloat_words::image::is_digest;

proptest! {
    #[test]
    fn manifests_point_to_digests(bytes in afloat_fuzz::damaged([
        r#"{"schemaVersion":2,"config":{"digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","size":3},
            "layers":[{"digest":"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}]}"#,
        r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "platform":{"os":"linux","architecture":"amd64","variant":"v8"}}]}"#,
    ])) {
        match read(&bytes, "amd64") {
            Ok(Document::Manifest { config, layers }) => {
                prop_assert!(layers.iter().chain([&config]).all(|blob| is_digest(&blob.digest)));
            }
            Ok(Document::Index(chosen)) => prop_assert!(is_digest(&chosen.digest)),
            Err(reason) => prop_assert!(!reason.is_empty()),
        }
    }

    #[test]
    fn challenges_are_understood_or_not(header in afloat_fuzz::damaged_text(&[
        r#"Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull""#,
        r#"Basic realm="r", Bearer realm=x"#,
        r#"Bearer realm="a\"b\\", service=""#,
    ])) {
        let _ = challenge::parse(&header);
    }

    #[test]
    fn credentials_are_read_or_refused(bytes in afloat_fuzz::damaged([
        r#"{"auths":{"https://index.docker.io/v1/":{"auth":"YTpi"},"*.example:5000/team":{"username":"a","password":"b"}}}"#,
    ])) {
        let mut keyring = Keyring::default();
        let _ = keyring.add_config_json(&bytes);
        let _ = keyring.add_dockercfg(&bytes);
        let _ = keyring.of("docker.io/library/web");
        let _ = keyring.of("x.example:5000/team/web");
    }
}
