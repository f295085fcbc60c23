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
/// Pod label: the name of a pod that has an ordinal.
pub const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// Pod label: its ordinal.
pub const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
/// Annotation of a claim that was made larger for a StatefulSet: the set's name.
pub const CLAIM_OF: &str = "apps.kruise.io/owned-by-asts";
/// Pod label: any presence asks for the pod's deletion and replacement.
pub const SPECIFIED_DELETE: &str = "apps.kruise.io/specified-delete";
/// Pod label: state of the pod's life as hooks see it.
pub const LIFECYCLE_STATE: &str = "lifecycle.apps.kruise.io/state";
/// CloneSet label of v1alpha1: "true" means `scaleStrategy.excludePreparingDelete`.
pub const EXCLUDE_PREPARING_DELETE: &str = "apps.kruise.io/cloneset-scaling-exclude-preparing-delete";
/// DaemonSet annotation of v1alpha1: "true" means `scaleStrategy.partitionedScaling`.
pub const PROGRESSIVE_CREATE: &str = "daemonset.kruise.io/progressive-create-pod";
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
/// StatefulSet condition: pods could not be created.
pub const FAILED_CREATE_POD: &str = "FailedCreatePod";
/// StatefulSet condition: pods could not be updated.
pub const FAILED_UPDATE_POD: &str = "FailedUpdatePod";
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
/// PodUnavailableBudget annotation: which operations it guards, separated by commas; v1beta1 has a field for it.
pub const PROTECT_OPERATIONS: &str = "kruise.io/pub-protect-operations";
/// PodUnavailableBudget annotation: how many pods there should be; v1beta1 has a field for it.
pub const PROTECT_TOTAL_REPLICAS: &str = "pub.kruise.io/protect-total-replicas";
/// Pod annotation: "true" lets the pod go whatever its budget says.
pub const NO_PROTECT: &str = "pub.kruise.io/no-protect";
/// Pod annotations: the PodUnavailableBudget that guards it. OpenKruise reads the first, later versions the second; both are written.
pub const RELATED_BUDGET: [&str; 2] = ["kruise.io/related-pub", "pub.kruise.io/related-pub"];
/// A pod with a label that begins like this counts as unavailable.
pub const UNAVAILABLE_PREFIX: &str = "unavailable-pod.kruise.io/";
/// Workload annotation, ours: "true" keeps so many of its pods Ready that they are a majority, whatever else is allowed.
pub const QUORUM: &str = "afloat.dev/quorum";
/// CloneSet annotation, ours: [`BEFORE_EVICTION_SURGE`] answers the eviction of a pod with a replacement for it first.
pub const BEFORE_EVICTION: &str = "afloat.dev/before-eviction";
/// The one value of [`BEFORE_EVICTION`].
pub const BEFORE_EVICTION_SURGE: &str = "Surge";
/// Pod annotation, ours: since when an eviction of the pod waits for its replacement.
pub const EVICTION_WAITS: &str = "afloat.dev/eviction-waits";
/// The webhook that is asked about pods with a budget.
pub const BUDGET_WEBHOOK: &str = "budgets.afloat.dev";
/// Where it is asked.
pub const BUDGET_PATH: &str = "/validate-pod";
/// Name of the webhook that is asked whether there may be such a PodUnavailableBudget, and its path: OpenKruise's.
pub const WRITTEN_BUDGET_WEBHOOK: &str = "written-budgets.afloat.dev";
/// See [`WRITTEN_BUDGET_WEBHOOK`].
pub const WRITTEN_BUDGET_PATH: &str = "/validate-policy-kruise-io-podunavailablebudget";
/// ContainerRecreateRequest label: UID of the pod.
pub const RECREATE_POD_UID: &str = "crr.apps.kruise.io/pod-uid";
/// ContainerRecreateRequest label: the pod's node, whose agent does the work.
pub const RECREATE_NODE: &str = "crr.apps.kruise.io/node-name";
/// ContainerRecreateRequest label: "true" until it is over.
pub const RECREATE_ACTIVE: &str = "crr.apps.kruise.io/active";
/// ContainerRecreateRequest annotation of v1alpha1: JSON of `status.containerStatusSnapshot`.
pub const RECREATE_SNAPSHOT: &str = "crr.apps.kruise.io/sync-container-statuses";
/// ContainerRecreateRequest finalizer: the pod is out of service for it. In v1alpha1 an annotation as well: since when.
pub const RECREATE_UNREADY: &str = "crr.apps.kruise.io/unready-acquired";
/// ContainerRecreateRequest condition: the pod is out of service (or cannot be taken out of it) since then.
pub const RECREATE_GRACE: &str = "PreRecreateGrace";
/// ContainerRecreateRequest condition, ours: all nodes' proxies have let go of the pod.
pub const RECREATE_DRAINED: &str = "afloat.dev/Drained";
/// Who takes a pod out of service, in the message of [`KRUISE_POD_READY`], for a ContainerRecreateRequest; its key is `namespace/name`.
pub const RECREATE_AGENT: &str = "ContainerRecreateRequest";
/// Template annotation, ours, with a container's name after it: each new value restarts that container of every pod in place.
pub const RESTART_PREFIX: &str = "restart.afloat.dev/";
/// Where the operator fills in new ContainerRecreateRequests, as the API server asks for it.
pub const RECREATE_PATH: &str = "/mutate-apps-kruise-io-containerrecreaterequest";
/// Label of nodes that are none, on which nothing can be stopped; copied to a ContainerRecreateRequest, as OpenKruise does.
pub const VIRTUAL_NODE: (&str, &str) = ("type", "virtual-kubelet");
/// Name of the configurations of webhooks that the operator makes.
pub const WEBHOOKS: &str = "afloat";

/// Workload annotation, ours: [`CONFIG_ROLLOUT`] makes what the template's ConfigMaps and Secrets hold a part of it.
pub const CONFIG: &str = "afloat.dev/config";
/// The one value of [`CONFIG`].
pub const CONFIG_ROLLOUT: &str = "Rollout";
/// Annotation that the operator gives to pods and the templates of revisions, with a container's name after it: digests of what the
/// ConfigMaps and Secrets hold that the container reads.
pub const CONFIG_PREFIX: &str = "config.afloat.dev/";

/// Workload annotation, ours: whether the images of a rollout are pulled before they are needed: [`PREWARM_REQUIRED`],
/// [`PREWARM_BEST_EFFORT`] or [`PREWARM_OFF`]; absent: as OpenKruise's gate PreDownloadImageForInPlaceUpdate says.
pub const PREWARM: &str = "afloat.dev/prewarm";
/// [`PREWARM`]: no pod leaves its Services before the image is on its node.
pub const PREWARM_REQUIRED: &str = "Required";
/// [`PREWARM`]: pulled, and waited for by nobody.
pub const PREWARM_BEST_EFFORT: &str = "BestEffort";
/// [`PREWARM`]: not pulled.
pub const PREWARM_OFF: &str = "Off";
