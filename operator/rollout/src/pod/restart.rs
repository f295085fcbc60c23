//! How to have a kubelet restart one container whose image does not change: by writing the same image in another way.
//!
//! A container takes environment from its pod's labels and annotations when it starts, so new values need a restart.
//! OpenKruise's daemon on the node kills the container; without any daemon, the only thing that makes a kubelet stop one
//! container properly (preStop, grace period) is another text of its image reference, and the text may change while the
//! meaning stays: `web:v1` is `docker.io/library/web:v1`, and both are `web:v1@sha256:…`.

use afloat_words::image::ImageName;

use crate::pod::object::Pod;

/// Another way to write the image that a container has: the template's, if that is another one already. None if no other
/// is known.
pub(crate) fn respell(pod: &Pod, container: &str, template_image: Option<&str>) -> Option<String> {
    let present = pod.container(container)?.image.as_str();
    let image_id = pod
        .container_status(container)
        .map_or("", |status| status.image_id.as_str());
    let same = |other: &&str| ImageName::of(other) == ImageName::of(present);
    let mut ways: Vec<String> = template_image.filter(same).map(str::to_owned).into_iter().collect();
    let (reference, digest) = present.split_once('@').map_or((present, None), |(a, b)| (a, Some(b)));
    let name = ImageName::of(reference);
    let tail = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
    if digest.is_none() {
        ways.extend(name.familiar());
        ways.push(name.to_string());
    } else {
        // With a digest the tag means nothing.
        let last = reference.rsplit('/').next().unwrap_or(reference);
        match last.split_once(':') {
            Some((_, tag)) => ways.extend(
                reference
                    .strip_suffix(&format!(":{tag}"))
                    .map(|path| format!("{path}{tail}")),
            ),
            None => ways.push(format!("{reference}:latest{tail}")),
        }
    }
    // An id that names a repository is one that the registry knows, unlike the id of an image's configuration.
    if digest.is_none()
        && let Some((repository, digest)) = image_id.split_once('@')
        && ImageName::of(repository).without_version() == name.without_version()
    {
        ways.push(format!("{present}@{digest}"));
    }
    ways.into_iter().find(|way| way != present)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_image_has_several_names() {
        let way = |image: &str, template: &str, id: &str| {
            let pod: Pod = serde_json::from_value(json!({
                "spec": {"containers": [{"name": "app", "image": image}]},
                "status": {"containerStatuses": [{"name": "app", "imageID": id}]},
            }))
            .unwrap();
            respell(&pod, "app", Some(template))
        };
        for (image, template, id, other) in [
            ("web:v1", "web:v1", "", Some("docker.io/library/web:v1")),
            ("docker.io/library/web:v1", "web:v1", "", Some("web:v1")),
            ("web:v1", "web:v2", "", Some("docker.io/library/web:v1")),
            ("team/web:v1", "team/web:v1", "", Some("docker.io/team/web:v1")),
            ("web", "web", "", Some("web:latest")),
            ("library/a/web:v1", "x", "", Some("docker.io/library/a/web:v1")),
            ("r.io/web", "r.io/web", "", Some("r.io/web:latest")),
            ("r.io/web:v1", "r.io/web:v1", "sha256:1", None),
            (
                "r.io/web:v1",
                "r.io/web:v1",
                "r.io/web@sha256:1",
                Some("r.io/web:v1@sha256:1"),
            ),
            ("r.io/web:v1", "r.io/web:v1", "mirror.io/web@sha256:1", None),
            (
                "r.io/web:v1@sha256:1",
                "r.io/web:v1",
                "r.io/web@sha256:1",
                Some("r.io/web@sha256:1"),
            ),
            (
                "r.io/web@sha256:1",
                "r.io/web@sha256:1",
                "r.io/web@sha256:1",
                Some("r.io/web:latest@sha256:1"),
            ),
        ] {
            assert_eq!(way(image, template, id).as_deref(), other, "{image}");
        }
    }
}
