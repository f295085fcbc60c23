use super::*;
use proptest::prelude::*;

fn digest() -> String {
    format!("sha256:{}", "a1".repeat(32))
}

#[test]
fn names_become_full() {
    for (short, full) in [
        ("web", "docker.io/library/web:latest"),
        ("web:v1", "docker.io/library/web:v1"),
        ("library/web", "docker.io/library/web:latest"),
        ("docker.io/web", "docker.io/library/web:latest"),
        ("docker.io/library/web", "docker.io/library/web:latest"),
        ("index.docker.io/web", "docker.io/library/web:latest"),
        ("team/web:v1", "docker.io/team/web:v1"),
        ("library/a/web", "docker.io/library/a/web:latest"),
        ("localhost/web", "localhost/web:latest"),
        ("localhost:5000/web", "localhost:5000/web:latest"),
        ("LOCALHOST/web", "LOCALHOST/web:latest"),
        ("127.0.0.1:5000/web:v1", "127.0.0.1:5000/web:v1"),
        ("[::1]:5000/web:v1", "[::1]:5000/web:v1"),
        ("[fc00::1]/web", "[fc00::1]/web:latest"),
        ("ghcr.io/a/b/c:1.0-rc_1", "ghcr.io/a/b/c:1.0-rc_1"),
        ("a_b/c__d/e---f/g.h", "docker.io/a_b/c__d/e---f/g.h:latest"),
        ("r-1.io/library/web", "r-1.io/library/web:latest"),
    ] {
        let name = ImageName::parse(short);
        assert_eq!(name.map(|name| name.to_string()).as_deref(), Ok(full));
        assert_eq!(name, ImageName::parse(full), "already full");
    }
}

#[test]
fn a_digest_decides() {
    let digest = digest();
    let text = format!("web:v1@{digest}");
    let name = ImageName::parse(&text).unwrap();
    assert_eq!(name.to_string(), format!("docker.io/library/web:v1@{digest}"));
    assert_eq!(name.meaning().to_string(), format!("docker.io/library/web@{digest}"));
    assert_eq!((name.digest(), name.tag()), (Some(digest.as_str()), Some("v1")));
    let plain = format!("web@{digest}");
    assert_eq!(ImageName::parse(&plain).unwrap().tag(), None);
    assert!(is_digest(&digest) && !is_digest("sha256:12") && !is_digest(&digest.to_uppercase()));
}

#[test]
fn names_are_taken_apart() {
    for (text, registry, repository, familiar) in [
        ("web:v1", "docker.io", "library/web", Some("web:v1")),
        ("docker.io/team/web", "docker.io", "team/web", Some("team/web:latest")),
        (
            "docker.io/library/a/b",
            "docker.io",
            "library/a/b",
            Some("library/a/b:latest"),
        ),
        ("localhost:5000/a/b:1", "localhost:5000", "a/b", None),
    ] {
        let name = ImageName::of(text);
        assert_eq!(name.registry(), registry);
        assert_eq!(name.repository(), repository);
        assert_eq!(name.without_version(), format!("{registry}/{repository}"));
        assert_eq!(name.familiar().as_deref(), familiar);
    }
}

#[test]
fn latest_is_a_tag_that_moves() {
    for (text, latest) in [
        ("web", true),
        ("web:latest", true),
        ("r:5000/web", true),
        ("web:v1", false),
        ("web@sha256:1", false),
        ("web:latest@sha256:1", false),
    ] {
        assert_eq!(ImageName::of(text).is_latest(), latest, "{text}");
    }
}

#[test]
fn nonsense_is_refused() {
    use BadImageName::{Digest, Identifier, Registry, Repository, Tag, TooLong};
    let long = "a".repeat(256 - LIBRARY.len());
    let longest = "a".repeat(255 - LIBRARY.len());
    assert!(ImageName::parse(&longest).is_ok());
    assert!(ImageName::parse(&format!("web:{}", "v".repeat(128))).is_ok());
    for (bad, why) in [
        ("", Repository),
        (":v1", Repository),
        ("/", Repository),
        ("Web", Repository),
        ("-web", Repository),
        ("web-", Repository),
        ("a//b", Repository),
        ("../web", Registry),
        ("a..b", Repository),
        ("a_.b", Repository),
        ("a___b", Repository),
        ("wéb", Repository),
        ("web ", Repository),
        ("web:", Tag),
        ("web:a b", Tag),
        ("web:-v", Tag),
        ("web:ü", Tag),
        (&format!("web:{}", "v".repeat(129)), Tag),
        ("web@sha256:12", Digest),
        ("web@", Digest),
        ("-r.io/web", Registry),
        ("r..io/web", Registry),
        ("r.io:/web", Registry),
        ("r.io:x/web", Registry),
        ("[::1/web", Registry),
        ("[]:1/web", Registry),
        ("[::1]5000/web", Registry),
        (&"ab".repeat(32), Identifier),
        (&long, TooLong),
    ] {
        assert_eq!(ImageName::parse(bad), Err(why), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_text_is_taken_apart_and_a_full_name_stays(text in "[a-zA-Z0-9._:/@\\[\\]-]{0,40}|.{0,20}") {
        let full = ImageName::of(&text).to_string();
        if ImageName::parse(&text).is_ok() {
            prop_assert_eq!(ImageName::parse(&full).map(|name| name.to_string()), Ok(full.clone()));
            prop_assert_eq!(ImageName::of(&text), ImageName::of(&full));
        }
    }

    #[test]
    fn a_familiar_name_means_the_same(text in r"(docker\.io/|localhost/)?(library/)?([a-z]{1,3}/){0,2}[a-z]{1,3}(:v1)?") {
        let name = ImageName::parse(&text).unwrap();
        let familiar = name.familiar();
        prop_assert_eq!(familiar.is_some(), name.registry() == "docker.io");
        if let Some(familiar) = familiar {
            prop_assert_eq!(ImageName::of(&familiar), name);
        }
    }
}
