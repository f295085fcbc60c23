//! OpenKruise's gates, one a line: name, default, stage, and what each is to this operator.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Alpha,
    Beta,
}

/// What a gate is to this operator.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    /// It acts; here is what it does.
    Acts(&'static str),
    /// Nothing that this operator does depends on it; here is why.
    Idle(&'static str),
    /// It would change what becomes of CloneSets or their pods, and this operator does not do it; here is what.
    Missing(&'static str),
}

pub(super) struct Known {
    pub(super) name: &'static str,
    /// In OpenKruise.
    pub(super) default: bool,
    pub(super) stage: Stage,
    pub(super) role: Role,
}

pub(super) const ALL_ALPHA: &str = "AllAlpha";
pub(super) const ALL_BETA: &str = "AllBeta";

/// Every gate of OpenKruise, in the order of its own list.
pub(super) const KNOWN: &[Known] = {
    use Role::{Acts, Idle, Missing};
    use Stage::{Alpha, Beta};
    const fn gate(name: &'static str, default: bool, stage: Stage, role: Role) -> Known {
        Known {
            name,
            default,
            stage,
            role,
        }
    }
    const SIDECARS: Role = Idle("it is about SidecarSets");
    const PROBES: Role = Idle("it is about PodProbeMarkers");
    const BUDGETS: Role = Idle("each PodUnavailableBudget says what it guards");
    const PROTECTION: &str = "nothing is protected from deletion";
    &[
        gate("PodWebhook", true, Beta, Idle("there is no webhook for pods")),
        gate(
            "KruiseDaemon",
            true,
            Beta,
            Acts("false also turns InPlaceUpdateEnvFromMetadata off; no daemon is needed"),
        ),
        gate("DaemonWatchingPod", true, Beta, Idle("it is about OpenKruise's daemon")),
        gate(
            "CloneSetShortHash",
            false,
            Alpha,
            Acts("pods' controller-revision-hash is the hash alone"),
        ),
        gate(
            "KruisePodReadinessGate",
            false,
            Alpha,
            Idle("it is about pods of other controllers"),
        ),
        gate(
            "PreDownloadImageForInPlaceUpdate",
            false,
            Alpha,
            Acts("images of a rollout in place are pulled on the nodes of its pods beforehand"),
        ),
        gate(
            "CloneSetPartitionRollback",
            false,
            Alpha,
            Acts("a raised partition brings updated pods back"),
        ),
        gate("ResourcesDeletionProtection", false, Beta, Missing(PROTECTION)),
        gate(
            "WorkloadSpread",
            true,
            Beta,
            Missing("WorkloadSpreads do not change new pods"),
        ),
        gate("PodUnavailableBudgetDeleteGate", true, Beta, BUDGETS),
        gate("PodUnavailableBudgetUpdateGate", false, Alpha, BUDGETS),
        gate(
            "TemplateNoDefaults",
            false,
            Alpha,
            Acts("new revisions have templates as they are written; for those, `afloat crds --template-no-defaults`"),
        ),
        gate(
            "InPlaceUpdateEnvFromMetadata",
            true,
            Beta,
            Acts("containers restart in place for env from changed labels and annotations"),
        ),
        gate(
            "StatefulSetAutoDeletePVC",
            true,
            Beta,
            Acts("claims of StatefulSets go by persistentVolumeClaimRetentionPolicy"),
        ),
        gate("SidecarSetPatchPodMetadataDefaultsAllowed", false, Alpha, SIDECARS),
        gate(
            "SidecarTerminator",
            false,
            Alpha,
            Idle("it is about sidecars of pods that end"),
        ),
        gate("PodProbeMarkerGate", true, Beta, PROBES),
        gate(
            "PreDownloadImageForDaemonSetUpdate",
            false,
            Alpha,
            Acts("images of a rollout of a DaemonSet are pulled on the nodes of its pods beforehand"),
        ),
        gate(
            "CloneSetEventHandlerOptimization",
            false,
            Alpha,
            Idle("many changes of pods cost one look here anyway"),
        ),
        gate(
            "PreparingUpdateAsUpdate",
            false,
            Alpha,
            Acts("pods in PreparingUpdate count as updated when scaling"),
        ),
        gate(
            "ImagePullJobGate",
            false,
            Alpha,
            Idle("image pull jobs are always looked after"),
        ),
        gate(
            "ResourceDistributionGate",
            false,
            Alpha,
            Idle("it is about ResourceDistributions"),
        ),
        gate(
            "DeletionProtectionForCRDCascadingGate",
            false,
            Alpha,
            Idle("it is about the deletion of CRDs"),
        ),
        gate(
            "EnhancedLivenessProbe",
            false,
            Alpha,
            Idle("there is no webhook for pods"),
        ),
        gate(
            "RecreatePodWhenChangeVCTInCloneSetGate",
            false,
            Alpha,
            Acts("changed volumeClaimTemplates recreate pods with the next revision, but for InPlaceOnly"),
        ),
        gate(
            "StatefulSetStartOrdinal",
            false,
            Alpha,
            Acts("ordinals of StatefulSets begin with ordinals.start"),
        ),
        gate(
            "PodIndexLabel",
            true,
            Beta,
            Acts("pods of StatefulSets have the label apps.kubernetes.io/pod-index"),
        ),
        gate(
            "EnableExternalCerts",
            false,
            Alpha,
            Idle("it is about the certificates of OpenKruise's webhooks"),
        ),
        gate(
            "StatefulSetAutoResizePVCGate",
            false,
            Alpha,
            Acts("claims of StatefulSets grow by volumeClaimUpdateStrategy"),
        ),
        gate(
            "ForceDeleteTimeoutExpectationGate",
            false,
            Alpha,
            Idle("what is not seen within five minutes is listed anew here anyway"),
        ),
        gate(
            "InPlaceWorkloadVerticalScaling",
            false,
            Alpha,
            Acts("cpu and memory change in place"),
        ),
        gate("EnablePodProbeMarkerOnServerless", false, Alpha, PROBES),
        gate("EnableSortSidecarContainerByName", false, Alpha, SIDECARS),
        gate(
            "InPlacePodVerticalScaling",
            false,
            Alpha,
            Idle("a resize that restarts nothing is never taken for an update by PodUnavailableBudgets"),
        ),
    ]
};

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    KNOWN.iter().map(|known| known.name).chain([ALL_ALPHA, ALL_BETA])
}

/// The names most like this one, at most three.
pub(super) fn close(name: &str) -> Vec<&'static str> {
    const ENOUGH: f64 = 0.8;
    let name = name.to_lowercase();
    let mut all: Vec<_> = names()
        .map(|known| {
            (
                strsim::normalized_damerau_levenshtein(&name, &known.to_lowercase()),
                known,
            )
        })
        .chain(names().map(|known| (strsim::jaro_winkler(&name, &known.to_lowercase()), known)))
        .filter(|(likeness, _)| *likeness > ENOUGH)
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut found = Vec::new();
    for (_, known) in all {
        if found.len() < 3 && !found.contains(&known) {
            found.push(known);
        }
    }
    found
}
