//! What a Kubernetes server and its nodes let change on a live pod, by the server's version.
//!
//! Sources: `ValidatePodResize` of `pkg/apis/core/validation` and `computeInitContainerActions` of `pkg/kubelet/kuberuntime` in
//! Kubernetes 1.32; for later versions the pull requests that changed them: k/k #128367 (1.33: sidecars are resized), #130183 (1.33:
//! a memory limit does not shrink), #133012 (1.34: it does, and the kubelet waits until the container uses less).
//! No version takes an amount that is there away from a running pod (#128683), and each lets one come, if the QoS class stays.

use serde_json::Value;

use crate::pod::change::Change;
use crate::pod::object::Pod;
use crate::pod::resize;

/// A Kubernetes server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// The second number of its version: 34 is Kubernetes 1.34.
    pub minor: u32,
    /// It has the `resize` subresource of pods: from 1.33 on, and 1.32 with its feature gate.
    pub resizes: bool,
}

impl Default for Server {
    /// One of which nothing is known: like the newest that we know.
    fn default() -> Self {
        Self {
            minor: 35,
            resizes: true,
        }
    }
}

/// The first whose kubelet restarts a sidecar for another image (k/k #126525).
const SIDECARS_RESTART: u32 = 32;
/// The first that resizes sidecars.
const SIDECARS_RESIZE: u32 = 33;
/// The one that lowers no memory limit without a restart.
const MEMORY_STAYS: u32 = 33;

impl Server {
    /// Whether a change can be made in place here.
    ///
    /// # Errors
    /// A sentence that says what cannot, and since when it can.
    pub fn allows(self, change: &Change) -> Result<(), String> {
        let version = format!("Kubernetes 1.{}", self.minor);
        if let Some(container) = change.resources.keys().next().filter(|_| !self.resizes) {
            return Err(format!(
                "resources of container {container} changed, and this cluster cannot resize pods"
            ));
        }
        for name in &change.sidecars {
            let restarts = change.images.contains_key(name) || change.environment.contains_key(name);
            if restarts && self.minor < SIDECARS_RESTART {
                return Err(format!(
                    "sidecar {name} changed, and {version} does not restart sidecars for that (since 1.{SIDECARS_RESTART})"
                ));
            }
            if change.resources.contains_key(name) && self.minor < SIDECARS_RESIZE {
                return Err(format!(
                    "resources of sidecar {name} changed, and {version} does not resize sidecars (since 1.{SIDECARS_RESIZE})"
                ));
            }
        }
        self.shrinks(change.shrinking.first())
    }

    /// Whether a change can be made on this pod, which may have other amounts than its template: what is known of it alone.
    ///
    /// # Errors
    /// As [`Self::allows`].
    pub(crate) fn allows_on(self, pod: &Pod, change: &Change) -> Result<(), String> {
        let shrinking = |(name, amounts): &(&String, &Value)| resize::shrinks(pod, name, amounts);
        self.shrinks(change.resources.iter().find(shrinking).map(|(name, _)| name))
    }

    fn shrinks(self, container: Option<&String>) -> Result<(), String> {
        match container.filter(|_| self.minor == MEMORY_STAYS) {
            Some(name) => Err(format!(
                "the memory limit of container {name} shrinks, which Kubernetes 1.{MEMORY_STAYS} allows only where its \
                 resizePolicy for memory is RestartContainer"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pod::inplace::compare;

    fn template() -> Value {
        json!({"spec": {
            "containers": [{"name": "app", "image": "app:1", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}}],
            "initContainers": [{"name": "mesh", "image": "mesh:1", "restartPolicy": "Always", "resources": {"limits": {"cpu": "1"}}}],
        }})
    }

    /// What becomes of a change in 1.31 to 1.35.
    fn by_version(edit: impl Fn(&mut Value)) -> [bool; 5] {
        let mut new = template();
        edit(&mut new["spec"]);
        let change = compare(&template(), &new).map_err(|obstacle| obstacle.0);
        [31, 32, 33, 34, 35].map(|minor| {
            let resizes = minor >= 32;
            change
                .as_ref()
                .is_ok_and(|change| Server { minor, resizes }.allows(change).is_ok())
        })
    }

    #[test]
    fn each_version_has_its_rules() {
        let memory = |limit: &'static str| {
            move |spec: &mut Value| spec["containers"][0]["resources"]["limits"]["memory"] = json!(limit)
        };
        type Row<'a> = (&'a str, [bool; 5], &'a dyn Fn(&mut Value));
        let table: [Row<'_>; 8] = [
            ("an image", [true; 5], &|s| s["containers"][0]["image"] = json!("app:2")),
            ("a sidecar's image", [false, true, true, true, true], &|s| {
                s["initContainers"][0]["image"] = json!("mesh:2");
            }),
            ("a sidecar's amount", [false, false, true, true, true], &|s| {
                s["initContainers"][0]["resources"]["limits"]["cpu"] = json!("2");
            }),
            ("memory grows", [false, true, true, true, true], &memory("3Gi")),
            ("memory shrinks", [false, true, false, true, true], &memory("1536Mi")),
            ("a limit comes", [false, true, true, true, true], &|s| {
                s["containers"][0]["resources"]["limits"]["cpu"] = json!("2");
            }),
            ("a limit goes", [false; 5], &|s| {
                s["containers"][0]["resources"]
                    .as_object_mut()
                    .unwrap()
                    .remove("limits");
            }),
            ("a request goes", [false; 5], &|s| {
                s["containers"][0]["resources"]["requests"]
                    .as_object_mut()
                    .unwrap()
                    .remove("cpu");
            }),
        ];
        for (what, expected, edit) in table {
            assert_eq!(by_version(edit), expected, "{what}");
        }
    }

    #[test]
    fn memory_shrinks_everywhere_where_its_policy_restarts() {
        let mut old = template();
        old["spec"]["containers"][0]["resizePolicy"] =
            json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        let mut new = old.clone();
        new["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("1536Mi");
        let change = compare(&old, &new).unwrap();
        let server = Server {
            minor: 33,
            resizes: true,
        };
        assert_eq!(server.allows(&change), Ok(()));
        new["spec"]["containers"][0]
            .as_object_mut()
            .unwrap()
            .remove("resizePolicy");
        let mut plain = new.clone();
        plain["spec"]["containers"][0]["resources"]["limits"]["memory"] = json!("2Gi");
        let change = compare(&plain, &new).unwrap();
        let why = server.allows(&change).unwrap_err();
        assert!(why.contains("memory limit of container app shrinks"), "{why}");
    }

    /// A LimitRange gave it more than the template now states.
    #[test]
    fn the_pods_own_limit_counts() {
        let mut old = template();
        old["spec"]["containers"][0]["resources"]
            .as_object_mut()
            .unwrap()
            .remove("limits");
        let mut new = old.clone();
        new["spec"]["containers"][0]["resources"]["limits"] = json!({"memory": "2Gi"});
        let change = compare(&old, &new).unwrap();
        let server = Server {
            minor: 33,
            resizes: true,
        };
        assert_eq!(server.allows(&change), Ok(()), "the template says nothing of it");
        let pod = |limit: &str| -> Pod {
            let mut pod = old.clone();
            pod["spec"]["containers"][0]["resources"]["limits"] = json!({"memory": limit});
            serde_json::from_value(pod).unwrap()
        };
        assert!(server.allows_on(&pod("4Gi"), &change).is_err());
        assert_eq!(server.allows_on(&pod("1Gi"), &change), Ok(()));
    }
}
