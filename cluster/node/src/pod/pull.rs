//! Whether an image is to be pulled, and when again. Pure.

use std::time::Duration;

use afloat_runtime::Image;
use afloat_words::image::ImageName;
use k8s_openapi::api::core::v1::Container;

use super::container::resolve::normalised;
use super::spec;
use super::state::Track;

/// What to do about a container's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Take what is here.
    Nothing,
    /// Pull it.
    Pull,
    /// It is not here and must not be pulled.
    Never,
}

/// Kubernetes' rules (kubernetes.io, Images, "Image pull policy"), and one of our own: what was made or loaded here under
/// this very name is what the name means, whatever the policy; no registry is asked.
pub(crate) fn need(container: &Container, found: Option<&Image>) -> Need {
    let reference = spec::image(container);
    let name = normalised(reference);
    // The API server's default, should it be missing.
    let default = if ImageName::of(reference).is_latest() {
        "Always"
    } else {
        "IfNotPresent"
    };
    let policy = container.image_pull_policy.as_deref().unwrap_or(default);
    match (found, policy) {
        (None, "Never") => Need::Never,
        (None, _) => Need::Pull,
        // A digest cannot mean anything else tomorrow.
        (Some(image), "Always") if !reference.contains('@') && image.registry_names.contains(&name) => Need::Pull,
        (Some(_), _) => Need::Nothing,
    }
}

/// Its image is being pulled, for what the spec says now.
pub(crate) fn under_way(track: &Track, container: &Container) -> bool {
    track
        .pulling
        .as_ref()
        .is_some_and(|hash| *hash == spec::hash(container))
}

/// Its image has been pulled, for what the spec says now.
pub(crate) fn done(track: &Track, container: &Container) -> bool {
    track
        .pulled
        .as_ref()
        .is_some_and(|(hash, _)| *hash == spec::hash(container))
}

/// A wait of up to a tenth more, so that the pods of a set do not all come back at once. `share`: from 0 to 1.
pub(crate) fn jittered(wait: Duration, share: f64) -> Duration {
    wait.mul_f64(1.0 + share.clamp(0.0, 1.0) / 10.0)
}

/// `1.234s`, `350ms`: a duration as Go writes one that was rounded to milliseconds, as events have it.
pub(crate) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match (millis / 60_000, millis % 60_000) {
        (0, millis) if millis < 1000 => format!("{millis}ms"),
        (0, millis) => format!("{}s", seconds(millis)),
        (minutes, millis) if minutes < 60 => format!("{minutes}m{}s", seconds(millis)),
        (minutes, millis) => format!("{}h{}m{}s", minutes / 60, minutes % 60, seconds(millis)),
    }
}

fn seconds(millis: u128) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(image: &str, policy: Option<&str>) -> Container {
        Container {
            image: Some(image.to_owned()),
            image_pull_policy: policy.map(str::to_owned),
            ..Container::default()
        }
    }

    #[test]
    fn policies_and_images_that_were_made_here() {
        let image = |registry_names: &[&str]| Image {
            id: "sha256:1".into(),
            names: vec!["docker.io/library/web:latest".into(), "docker.io/library/web:v1".into()],
            registry_names: registry_names.iter().map(|name| (*name).to_owned()).collect(),
            digests: vec![],
            size_bytes: 1,
            config: Default::default(),
        };
        let (local, pulled) = (
            image(&[]),
            image(&["docker.io/library/web:latest", "docker.io/library/web:v1"]),
        );
        for (reference, policy, found, expected) in [
            ("web", None, None, Need::Pull),
            ("web", None, Some(&pulled), Need::Pull),
            ("web:v1", None, Some(&pulled), Need::Nothing),
            ("web:v1", None, None, Need::Pull),
            ("web:v1", Some("Always"), Some(&pulled), Need::Pull),
            ("web", Some("IfNotPresent"), Some(&pulled), Need::Nothing),
            ("web", Some("Never"), Some(&pulled), Need::Nothing),
            ("web", Some("Never"), None, Need::Never),
            ("web", Some("Always"), Some(&local), Need::Nothing),
            ("web", None, Some(&image(&["docker.io/library/web:v1"])), Need::Nothing),
            ("web@sha256:1", Some("Always"), Some(&pulled), Need::Nothing),
        ] {
            assert_eq!(
                need(&container(reference, policy), found),
                expected,
                "{reference} {policy:?}"
            );
        }
    }

    #[test]
    fn nothing_is_made_while_the_image_comes() {
        use super::super::state::{PodState, Sandbox};
        use crate::pod::action::Action;
        use crate::pod::plan::plan;
        use crate::pod::state::PodView;
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [{"name": "app", "image": "web"}]},
        }))
        .unwrap_or_default();
        let host_ip = std::net::IpAddr::from([10, 0, 0, 1]);
        let now = jiff::Timestamp::UNIX_EPOCH;
        let mut state = PodState::new(Default::default(), now);
        state.sandbox = Sandbox::Ready(host_ip);
        let actions = |state: &PodState| {
            let view = PodView {
                pod: &pod,
                state,
                host_ip,
            };
            plan(&view, now).actions
        };
        let create = Action::Create {
            container: "app".into(),
            attempt: 0,
        };
        assert_eq!(actions(&state), std::slice::from_ref(&create));
        let hash = spec::find(&pod, "app").map(spec::hash).unwrap_or_default();
        let track = state.containers.entry("app".into()).or_default();
        track.pulling = Some(hash);
        assert_eq!(actions(&state), []);
        let track = state.containers.entry("app".into()).or_default();
        track.pulling = Some("another image's".into());
        assert_eq!(actions(&state), [create]);
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (millis, text) in [
            (0, "0ms"),
            (350, "350ms"),
            (1000, "1s"),
            (1234, "1.234s"),
            (61_500, "1m1.5s"),
            (3_661_000, "1h1m1s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(millis)), text);
        }
        let wait = Duration::from_secs(10);
        assert_eq!(
            (jittered(wait, 0.0), jittered(wait, 1.0)),
            (wait, Duration::from_secs(11))
        );
    }
}
