//! Which names are one image, by what nodes have pulled under them.

use std::collections::{BTreeMap, BTreeSet};

use afloat_api::{ImageKey, NodeImage, PullPhase};
use afloat_check::{Image, Images};
use afloat_words::image::ImageName;

/// What is known of these references. One that names a digest is that; another one is what all nodes that tell of it have pulled
/// under it, and where they tell different things nothing is known.
pub(super) fn pulled(references: &BTreeSet<String>, nodes: &[NodeImage]) -> Images {
    let meaning = |reference: &str| ImageName::of(reference).meaning().to_string();
    let mut digests: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for node in nodes {
        for (name, image) in &node.spec.images {
            for tag in &image.tags {
                let told = node.progress(name, &tag.tag, tag.version);
                let Some(told) = told.filter(|told| told.phase == PullPhase::Succeeded && !told.digest.is_empty())
                else {
                    continue;
                };
                let key = ImageKey {
                    name: name.clone(),
                    tag: tag.tag.clone(),
                };
                digests
                    .entry(meaning(&key.to_string()))
                    .or_default()
                    .insert(&told.digest);
            }
        }
    }
    let digest = |reference: &str| -> Option<String> {
        if let Some(digest) = ImageName::of(reference).digest() {
            return Some(digest.to_owned());
        }
        let found = digests.get(&meaning(reference))?;
        let mut all = found.iter();
        let first = all.next()?;
        all.next().is_none().then(|| (*first).to_owned())
    };
    let known = references.iter().filter_map(|reference| {
        let id = digest(reference)?;
        Some((reference.clone(), Image { id, paths: None }))
    });
    known.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(tags: &[(&str, &str, &str)]) -> NodeImage {
        let spec: Vec<_> = tags.iter().map(|(tag, ..)| json!({"tag": tag})).collect();
        let status: Vec<_> = tags
            .iter()
            .map(|(tag, phase, digest)| json!({"tag": tag, "phase": phase, "digest": digest}))
            .collect();
        let node = json!({
            "metadata": {"name": "n"}, "spec": {"images": {"app": {"tags": spec}}},
            "status": {"imageStatuses": {"app": {"tags": status}}},
        });
        serde_json::from_value(node).unwrap()
    }

    #[test]
    fn names_are_one_image_where_all_nodes_say_so() {
        let nodes = [
            node(&[
                ("1", "Succeeded", "sha256:a"),
                ("2", "Succeeded", "sha256:a"),
                ("3", "Succeeded", "sha256:b"),
                ("4", "Failed", "sha256:a"),
                ("5", "Succeeded", ""),
            ]),
            node(&[("2", "Succeeded", "sha256:a"), ("3", "Succeeded", "sha256:c")]),
        ];
        let references = [
            "app:1",
            "docker.io/library/app:2",
            "app:3",
            "app:4",
            "app:5",
            "app@sha256:a",
        ];
        let references = references.map(str::to_owned).into();
        let known = pulled(&references, &nodes);
        let ids: Vec<(&str, &str)> = known
            .iter()
            .map(|(name, image)| (name.as_str(), image.id.as_str()))
            .collect();
        let same = ["app:1", "app@sha256:a", "docker.io/library/app:2"];
        assert_eq!(ids, same.map(|name| (name, "sha256:a")));
    }
}
