//! Every annotation, label, condition, gate and reason, once. Keys are OpenKruise's unless they start with `afloat.dev/`.

/// The API group of the workloads.
pub const GROUP: &str = "apps.kruise.io";
/// The API version written and watched.
pub const API_VERSION: &str = "apps.kruise.io/v1beta1";

/// Pod annotation: JSON of [`crate::InPlaceUpdateState`]; stays after completion.
pub const INPLACE_STATE: &str = "apps.kruise.io/inplace-update-state";
/// The key that old releases used for [`INPLACE_STATE`]; read as a fallback, removed when an update starts.
pub const INPLACE_STATE_LEGACY: &str = "inplace-update-state";
/// Pod annotation: JSON of [`crate::UpdateSpec`] while OpenKruise waits for its grace period.
pub const INPLACE_GRACE: &str = "apps.kruise.io/inplace-update-grace";
/// The key that old releases used for [`INPLACE_GRACE`].
pub const INPLACE_GRACE_LEGACY: &str = "inplace-update-grace";
/// ControllerRevision annotation: hash of the set's volumeClaimTemplates when the revision was made; empty without any.
pub const CLAIMS_HASH: &str = "kruise.io/cloneset-volumeclaimtemplate-hash";
/// Pod annotation, ours: JSON map of container name to [`crate::ContainerOrigin`], written together with the images.
pub const INPLACE_FROM: &str = "afloat.dev/inplace-update-from";
/// Pod annotation: container hashes as the node's agent reports them.
pub const RUNTIME_CONTAINERS_META: &str = "apps.kruise.io/runtime-containers-meta";
/// Pod annotation: [`LAUNCH_ORDERED`] starts the containers one after the other, in the order of the spec.
pub const LAUNCH_PRIORITY: &str = "apps.kruise.io/container-launch-priority";
/// The one value of [`LAUNCH_PRIORITY`].
pub const LAUNCH_ORDERED: &str = "Ordered";
/// Pod annotation: "true" once every container may start.
pub const LAUNCH_COMPLETED: &str = "apps.kruise.io/container-launch-priority-completed";
/// Container variable: a number; containers with higher ones start earlier and are updated in place earlier.
pub const LAUNCH_VARIABLE: &str = "KRUISE_CONTAINER_PRIORITY";
/// Container variable that the kubelet cannot fill in before the container may start.
pub const LAUNCH_BARRIER: &str = "KRUISE_CONTAINER_BARRIER";
/// Template annotation, ours, with a container's name after it: [`DRAIN_SKIP`] says that the container serves no
/// traffic, so that the pod stays in service while only such containers are changed in place.
pub const DRAIN_PREFIX: &str = "drain.afloat.dev/";
/// The one value of [`DRAIN_PREFIX`] annotations.
pub const DRAIN_SKIP: &str = "Skip";
/// Workload annotation, ours: when a pod that was taken out of service may be changed or deleted, [`DRAIN_OBSERVED`] or
/// [`DRAIN_TIMED`]; absent: observed where any agent reports, timed elsewhere.
pub const DRAIN: &str = "afloat.dev/drain";
/// [`DRAIN`]: once every node's proxy has let go of it; gracePeriodSeconds is the limit.
pub const DRAIN_OBSERVED: &str = "Observed";
/// [`DRAIN`]: after gracePeriodSeconds, as OpenKruise does.
pub const DRAIN_TIMED: &str = "Timed";
/// Workload annotation, ours: how many connections a rollout may lose before no further pod is touched for it: a number,
/// or a percentage of the connections made meanwhile ("0.1%"), rounded up.
pub const MAX_LOSS: &str = "afloat.dev/max-loss";
/// Workload annotation, ours: what to do when more is lost than [`MAX_LOSS`]: [`ON_LOSS_PAUSE`], the default, or
/// [`ON_LOSS_ROLLBACK`].
pub const ON_LOSS: &str = "afloat.dev/on-loss";
/// [`ON_LOSS`]: leave the pods as they are.
pub const ON_LOSS_PAUSE: &str = "Pause";
/// [`ON_LOSS`]: bring the updated pods back to the revision that they had before.
pub const ON_LOSS_ROLLBACK: &str = "Rollback";
/// Pod annotation: RFC 3339 time of the last change of [`LIFECYCLE_STATE`].
pub const LIFECYCLE_TIMESTAMP: &str = "lifecycle.apps.kruise.io/timestamp";
/// Pod annotation: int32 as text; cheaper pods are deleted first.
pub const POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Pod label: the revision's full name (or only its hash, as one of OpenKruise's gates writes it).
pub const REVISION: &str = "controller-revision-hash";
/// Pod label: the revision's short hash.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
/// Pod label: five random characters that a pod shares with its claims.
pub const INSTANCE_ID: &str = "apps.kruise.io/cloneset-instance-id";
/// Pod label: any presence asks for the pod's deletion and replacement.
pub const SPECIFIED_DELETE: &str = "apps.kruise.io/specified-delete";
/// Pod label: state of the pod's life as hooks see it.
pub const LIFECYCLE_STATE: &str = "lifecycle.apps.kruise.io/state";
/// CloneSet label of v1alpha1: "true" means `scaleStrategy.excludePreparingDelete`.
pub const EXCLUDE_PREPARING_DELETE: &str = "apps.kruise.io/cloneset-scaling-exclude-preparing-delete";
/// Label of a ControllerRevision: its hash.
pub const REVISION_HASH: &str = "controller.kubernetes.io/hash";

/// Readiness gate and condition: False while a pod is out of service for an in-place update.
pub const INPLACE_READY: &str = "InPlaceUpdateReady";
/// Readiness gate and condition with several writers, used by hooks and restarts.
pub const KRUISE_POD_READY: &str = "KruisePodReady";
/// Reason of a False [`INPLACE_READY`].
pub const START_INPLACE_UPDATE: &str = "StartInPlaceUpdate";
/// Reason of a False [`INPLACE_READY`] that the agent of a node that goes down has written.
pub const NODE_SHUTDOWN: &str = "NodeShutdown";
/// Reason of a False `Ready` condition caused by a gate.
pub const READINESS_GATES_NOT_READY: &str = "ReadinessGatesNotReady";

/// [`LIFECYCLE_STATE`]: taking part in service.
pub const STATE_NORMAL: &str = "Normal";
/// [`LIFECYCLE_STATE`]: created, not taking part yet.
pub const STATE_PREPARING_NORMAL: &str = "PreparingNormal";
/// [`LIFECYCLE_STATE`]: a hook holds the pod back before its update.
pub const STATE_PREPARING_UPDATE: &str = "PreparingUpdate";
/// [`LIFECYCLE_STATE`]: being updated in place.
pub const STATE_UPDATING: &str = "Updating";
/// [`LIFECYCLE_STATE`]: updated, until the hook holds the pod again.
pub const STATE_UPDATED: &str = "Updated";
/// [`LIFECYCLE_STATE`]: a hook holds the pod back before its deletion.
pub const STATE_PREPARING_DELETE: &str = "PreparingDelete";

/// CloneSet condition: how far the rollout is, in OpenKruise's words; only with `progressDeadlineSeconds`.
pub const PROGRESSING: &str = "Progressing";
/// CloneSet condition, ours: True while a rollout goes on; its message says how far it is and what it waits for.
pub const ROLLOUT: &str = "afloat.dev/Rollout";
/// CloneSet condition: pods could not be created or deleted.
pub const FAILED_SCALE: &str = "FailedScale";
/// CloneSet condition: pods could not be updated.
pub const FAILED_UPDATE: &str = "FailedUpdate";
/// CloneSet condition, ours: a rollout has lost more than [`MAX_LOSS`] allows.
pub const LOSS_EXCEEDED: &str = "LossExceeded";

/// The Lease that OpenKruise's manager holds, in namespace [`MANAGER_NAMESPACE`].
pub const MANAGER_LEASE: &str = "kruise-manager";
/// Namespace of OpenKruise's manager.
pub const MANAGER_NAMESPACE: &str = "kruise-system";

/// The operator's Service for the API server's calls, in the manager's namespace by default.
pub const WEBHOOK_SERVICE: &str = "afloat-webhook";
/// The Secret with its authority and certificate, in the namespace of [`WEBHOOK_SERVICE`].
pub const WEBHOOK_SECRET: &str = "afloat-webhook-certs";
/// Where the operator converts.
pub const WEBHOOK_PATH: &str = "/convert";
/// CloneSet annotation, ours, in v1alpha1 only: `podUpdatePolicy` of an object whose type is OnDelete, for which v1alpha1 has no field.
pub const POD_UPDATE_POLICY: &str = "afloat.dev/pod-update-policy";
/// CloneSet annotations of v1alpha1 about the download of images beforehand, and the fields of `inPlaceUpdateStrategy` that they
/// are in v1beta1.
pub const PREDOWNLOAD: [(&str, &str); 3] = [
    (
        "apps.kruise.io/image-predownload-parallelism",
        "imagePreDownloadParallelism",
    ),
    (
        "apps.kruise.io/image-predownload-timeout-seconds",
        "imagePreDownloadTimeoutSeconds",
    ),
    (
        "apps.kruise.io/image-predownload-min-updated-ready-pods",
        "imagePreDownloadMinUpdatedReadyPods",
    ),
];

/// Where copies of pull secrets are, which agents may read.
pub const DAEMON_NAMESPACE: &str = "kruise-daemon-config";
/// Annotation of such a copy: `namespace/name` of what it is a copy of.
pub const SECRET_SOURCE: &str = "imagepulljobs.kruise.io/source-key";
/// Annotation of such a copy: `namespace/name` of the jobs that need it, separated by commas.
pub const SECRET_REFERENCES: &str = "imagepulljobs.kruise.io/references";
/// Annotation of such a copy: [`SECRET_BATCH`].
pub const SECRET_MODE: &str = "imagepulljobs.kruise.io/mode";
/// Its references in NodeImages go with the image that they stand at.
pub const SECRET_BATCH: &str = "batch";
/// Finalizer that OpenKruise gives to ImagePullJobs, and this operator takes away when a job has ended.
pub const PULL_JOB_PROTECTION: &str = "apps.kruise.io/deletion-protection";
/// NodeImage label: it is for tests, and needs no node.
pub const FAKE_NODE_IMAGE: &str = "apps.kruise.io/fake-nodeimage";
