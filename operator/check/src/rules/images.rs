//! What images are called, and what that does to a release.

use afloat_api::PodUpdatePolicy;
use afloat_words::image::ImageName;

use crate::cel::{Cel, On, Part};
use crate::object::{Workload, World};
use crate::rule::{Hit, Rule, Severity, Test};

const IMAGES: &str = "https://kubernetes.io/docs/concepts/containers/images/";

pub(super) const LATEST_TAG: Rule = Rule {
    id: "latest-tag",
    severity: Severity::Warning,
    title: "an image is named by the tag latest, which releases nothing",
    why: "A release is a change of the template's text. With the tag latest the text stays the same: an update in place has nothing \
          to do, and with imagePullPolicy IfNotPresent a node that has some latest never fetches another. Pods of one workload \
          may run different programs.",
    remedy: "Name a version or a digest.",
    link: IMAGES,
    test: Test::Workload(latest_tag),
    cel: Cel::Finds {
        on: On::Workloads,
        part: Part::Spec,
        found: "variables.containers.filter(c, has(c.image) && c.image != '' && !c.image.contains('@') && \
                c.image.matches('(^|/)[^/:]*(:latest)?$') && (variables.inPlace || \
                (has(c.imagePullPolicy) && c.imagePullPolicy != 'Always'))).map(c, c.name)",
    },
};

/// Whether the reference names no version: no tag and no digest, or the tag latest.
fn latest(image: &str) -> bool {
    !image.is_empty() && ImageName::of(image).is_latest()
}

fn latest_tag(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let in_place = in_place(workload);
    let containers = workload.containers().into_iter();
    containers
        .filter(|container| latest(container.image()))
        .filter_map(|container| {
            let policy = container.field("/imagePullPolicy").and_then(|policy| policy.as_str());
            let kept = policy.is_some_and(|policy| policy != "Always");
            let why = match (in_place, kept) {
                (true, _) => "the text stays the same, so nothing is updated in place",
                (_, true) => "nodes that have one keep it",
                _ => return None,
            };
            let message = format!("container {} has image {}: {why}", container.name(), container.image());
            Some(Hit::new(container.at("/image"), message))
        })
        .collect()
}

fn in_place(workload: &Workload<'_>) -> bool {
    workload
        .rollout()
        .is_some_and(|rollout| rollout.policy != PodUpdatePolicy::ReCreate)
}

pub(super) const INIT_SHARES_IMAGE: Rule = Rule {
    id: "init-shares-image",
    severity: Severity::Warning,
    title: "an init container has the image of the application, so no release is in place",
    why: "Init containers do not run again in a running pod, so a change of their image recreates the pod (InPlaceIfPossible) or is \
          refused (InPlaceOnly). Where an init container has the application's image, every release changes both.",
    remedy: "Give the init container an image of its own whose version changes seldom, or do its work in the application's start.",
    link: "https://openkruise.io/docs/core-concepts/inplace-update",
    test: Test::Workload(init_shares_image),
    cel: Cel::Finds {
        on: On::Ours,
        part: Part::Spec,
        found: "!variables.inPlace ? [] : variables.initContainers.filter(i, has(i.image) && i.image != '' && \
                !(has(i.restartPolicy) && i.restartPolicy == 'Always') && \
                variables.containers.exists(c, has(c.image) && c.image == i.image)).map(i, i.name)",
    },
};

fn init_shares_image(_: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    if !in_place(workload) {
        return Vec::new();
    }
    let containers = workload.containers();
    let mut found = Vec::new();
    // Sidecars run as long as the others, and change in place as they do.
    for init in workload.init_containers().into_iter().filter(|init| !init.is_sidecar()) {
        if let Some(other) = containers
            .iter()
            .find(|other| !init.image().is_empty() && other.image() == init.image())
        {
            let message = format!(
                "init container {} and container {} share image {}",
                init.name(),
                other.name(),
                init.image()
            );
            found.push(Hit::new(init.at("/image"), message));
        }
    }
    found
}

pub(super) const TWO_TAGS: Rule = Rule {
    id: "two-tags-one-image",
    severity: Severity::Info,
    title: "two references are one image",
    why: "A release from one of them to the other changes the template's text, restarts containers, and brings nothing new.",
    remedy: "Use one name for one image, or its digest.",
    link: IMAGES,
    test: Test::Workload(two_tags),
    cel: Cel::Needs("what is in the images"),
};

fn two_tags(world: &World<'_>, workload: &Workload<'_>) -> Vec<Hit> {
    let mut found = Vec::new();
    for container in workload.containers() {
        let Some(image) = world.images.get(container.image()).filter(|image| !image.id.is_empty()) else {
            continue;
        };
        // Each pair is told once, at the later name.
        let twin = world
            .images
            .iter()
            .find(|(name, other)| name.as_str() < container.image() && other.id == image.id);
        if let Some((name, _)) = twin {
            let message = format!(
                "{} of container {} is the image {name}",
                container.image(),
                container.name()
            );
            found.push(Hit::new(container.at("/image"), message));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (image, is) in [
            ("web", true),
            ("web:latest", true),
            ("localhost:5000/web", true),
            ("localhost:5000/web:1", false),
            ("web@sha256:1", false),
            ("web:1", false),
            ("", false),
        ] {
            assert_eq!(latest(image), is, "{image}");
        }
    }
}
