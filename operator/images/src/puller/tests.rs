use super::*;
use afloat_api::TagPullPolicy;
use k8s_openapi::api::core::v1::ObjectReference;
use proptest::prelude::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn tag(name: &str, owner: &str, asked: i64) -> TagSpec {
    TagSpec {
        tag: name.into(),
        created_at: Some(seconds(at(asked))),
        pull_policy: Some(TagPullPolicy {
            timeout_seconds: Some(50),
            backoff_limit: Some(2),
            ..TagPullPolicy::default()
        }),
        owner_references: vec![ObjectReference {
            uid: Some(owner.into()),
            ..ObjectReference::default()
        }],
        image_pull_policy: "IfNotPresent".into(),
        ..TagSpec::default()
    }
}

fn spec(tags: Vec<TagSpec>) -> NodeImageSpec {
    let mut spec = NodeImageSpec::default();
    spec.images.entry("web".into()).or_default().tags = tags;
    spec
}

fn key(tag: &str) -> ImageKey {
    ImageKey {
        name: "web".into(),
        tag: tag.into(),
    }
}

fn pulled() -> Result<Pulled, Failure> {
    Ok(Pulled {
        id: "sha256:1".into(),
        digest: "sha256:2".into(),
    })
}

fn failed(lasting: bool) -> Result<Pulled, Failure> {
    Err(Failure {
        message: "no".into(),
        lasting,
    })
}

fn phase(puller: &Puller, spec: &NodeImageSpec, tag: &str) -> PullPhase {
    let status = puller.status(spec, &NodeImageStatus::default(), at(0));
    status.of("web", tag).unwrap().phase
}

#[test]
fn a_pull_is_tried_again_after_growing_rests_and_then_given_up() {
    let (mut puller, spec) = (Puller::new(1), spec(vec![tag("1", "a", 0)]));
    puller.take(&spec, &NodeImageStatus::default());
    let mut begun = Vec::new();
    for second in 0..60 {
        for start in puller.next(at(second)) {
            assert_eq!(start.limit, Duration::from_secs(50));
            begun.push(second);
            puller.ended(&start.image, failed(false), at(second));
        }
    }
    assert_eq!(begun, [0, 1, 3]);
    let status = puller.status(&spec, &NodeImageStatus::default(), at(60));
    let ended = status.of("web", "1").unwrap();
    assert_eq!(
        (ended.phase, ended.message.as_str()),
        (PullPhase::Failed, "no (after 3 tries)")
    );
    assert_eq!(status.first_sync_status.as_ref().unwrap().status, "Failed");
    assert_eq!([status.desired, status.failed, status.pulling], [1, 1, 0]);
    // Told, it is known; nothing begins again.
    puller.take(&spec, &status);
    assert!(puller.next(at(100)).is_empty());
    assert_eq!(puller.status(&spec, &status, at(100)), status);
}

#[test]
fn what_cannot_be_is_not_tried_again() {
    let (mut puller, spec) = (Puller::new(1), spec(vec![tag("1", "a", 0)]));
    puller.take(&spec, &NodeImageStatus::default());
    assert_eq!(puller.next(at(0)).len(), 1);
    puller.ended(&key("1"), failed(true), at(1));
    assert_eq!(phase(&puller, &spec, "1"), PullPhase::Failed);
}

#[test]
fn all_tries_together_have_a_deadline() {
    let mut tag = tag("1", "a", 0);
    let policy = tag.pull_policy.as_mut().unwrap();
    (policy.active_deadline_seconds, policy.backoff_limit) = (Some(60), Some(100));
    let (mut puller, spec) = (Puller::new(1), spec(vec![tag]));
    puller.take(&spec, &NodeImageStatus::default());
    assert_eq!(puller.next(at(0))[0].limit, Duration::from_secs(50));
    puller.ended(&key("1"), failed(false), at(50));
    assert_eq!(puller.next(at(51))[0].limit, Duration::from_secs(9));
    puller.ended(&key("1"), failed(false), at(60));
    assert!(puller.next(at(60)).is_empty());
    let status = puller.status(&spec, &NodeImageStatus::default(), at(60));
    let message = &status.of("web", "1").unwrap().message;
    assert_eq!(message, "pulling exceeds the activeDeadlineSeconds; the last try: no");
}

#[test]
fn a_pull_that_rests_leaves_its_place_to_others() {
    let spec = spec(vec![tag("1", "a", 0), tag("2", "a", 1)]);
    let mut puller = Puller::new(1);
    puller.take(&spec, &NodeImageStatus::default());
    assert_eq!(puller.next(at(2))[0].image, key("1"));
    puller.ended(&key("1"), failed(false), at(2));
    assert_eq!(puller.next(at(2))[0].image, key("2"));
    assert_eq!(phase(&puller, &spec, "1"), PullPhase::Pulling);
    assert_eq!(puller.wake_at(), Some(at(3)));
}

#[test]
fn a_job_with_many_images_keeps_no_other_from_its_turn() {
    let mut tags: Vec<_> = (0..9).map(|n| tag(&format!("a{n}"), "a", 0)).collect();
    tags.push(tag("b", "b", 5));
    let (mut puller, spec) = (Puller::new(2), spec(tags));
    puller.take(&spec, &NodeImageStatus::default());
    let first: Vec<_> = puller.next(at(6)).into_iter().map(|start| start.image.tag).collect();
    assert_eq!(first, ["a0", "b"]);
}

#[test]
fn a_pull_that_nobody_wants_is_stopped() {
    let both = spec(vec![tag("1", "a", 0), tag("2", "a", 0)]);
    let mut puller = Puller::new(2);
    puller.take(&both, &NodeImageStatus::default());
    puller.next(at(0));
    let stopped = puller.take(&spec(vec![tag("2", "a", 0)]), &NodeImageStatus::default());
    assert_eq!(stopped, [key("1")]);
    puller.ended(&key("1"), pulled(), at(1));
    assert_eq!(
        puller.status(&both, &NodeImageStatus::default(), at(1)).of("web", "1"),
        None
    );
}

#[test]
fn another_job_joins_a_pull_that_is_on_the_way_unless_it_wants_its_own() {
    let mut second = tag("1", "b", 3);
    second.version = 1;
    let mut puller = Puller::new(2);
    puller.take(&spec(vec![tag("1", "a", 0)]), &NodeImageStatus::default());
    puller.next(at(0));
    let joined = spec(vec![second.clone()]);
    assert!(puller.take(&joined, &NodeImageStatus::default()).is_empty());
    puller.ended(&key("1"), pulled(), at(4));
    let status = puller.status(&joined, &NodeImageStatus::default(), at(4));
    let ended = status.of("web", "1").unwrap();
    assert_eq!((ended.version, ended.phase), (1, PullPhase::Succeeded));
    assert_eq!(
        (ended.image_id.as_str(), ended.digest.as_str()),
        ("web@sha256:1", "sha256:2")
    );

    let mut puller = Puller::new(2);
    puller.take(&spec(vec![tag("1", "a", 0)]), &NodeImageStatus::default());
    puller.next(at(0));
    second.image_pull_policy = "Always".into();
    assert_eq!(
        puller.take(&spec(vec![second]), &NodeImageStatus::default()),
        [key("1")]
    );
    assert!(!puller.next(at(5))[0].if_not_present);
}

#[test]
fn progress_is_news_once() {
    let mut puller = Puller::new(2);
    puller.take(&spec(vec![tag("1", "a", 0)]), &NodeImageStatus::default());
    puller.next(at(0));
    assert!(puller.progressed(&key("1"), 40) && !puller.progressed(&key("1"), 40));
    assert!(!puller.progressed(&key("1"), 30), "it does not go back");
}

proptest! {
    /// Whatever comes of pulls, no more run than may, and all end.
    #[test]
    fn the_limit_holds_and_all_end(
        limit in 1_usize..4,
        owners in proptest::collection::vec(0_u8..3, 1..12),
        fates in proptest::collection::vec((any::<bool>(), 1_i64..40), 1..20),
    ) {
        let tags = owners.iter().enumerate();
        let spec = spec(tags.map(|(n, owner)| tag(&n.to_string(), &owner.to_string(), 0)).collect());
        let mut puller = Puller::new(limit);
        let mut running: BTreeMap<ImageKey, i64> = BTreeMap::new();
        let mut fates = fates.iter().cycle();
        let mut told = NodeImageStatus::default();
        for second in 0..4000 {
            puller.take(&spec, &told);
            for start in puller.next(at(second)) {
                let (_, takes) = fates.next().unwrap();
                prop_assert!(running.insert(start.image, second + takes).is_none(), "none runs twice");
            }
            prop_assert!(running.len() <= limit);
            let over: Vec<_> = running.iter().filter(|(_, end)| **end <= second).map(|(key, _)| key.clone()).collect();
            for key in over {
                running.remove(&key);
                let (good, _) = fates.next().unwrap();
                puller.ended(&key, if *good { pulled() } else { failed(false) }, at(second));
            }
            if second % 7 == 0 {
                told = puller.status(&spec, &told, at(second));
            }
        }
        prop_assert_eq!(told.succeeded + told.failed, told.desired);
        prop_assert!(running.is_empty());
    }
}
