//! Feature gates: OpenKruise's flag `--feature-gates`, all its names, and what each is to this operator.
//!
//! Names, stages and rules are those of OpenKruise 1.8.0 and 1.9.1 (`pkg/features/kruise_features.go`; the two differ only
//! in that 1.9.1 has two names more), the syntax is that of Kubernetes' components (`k8s.io/component-base/featuregate`).

mod known;

use std::collections::BTreeMap;
use std::fmt;

use known::{ALL_ALPHA, ALL_BETA, KNOWN, Role, Stage, close, names};

/// The gates that change what becomes of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gates {
    /// `CloneSetShortHash`: the label `controller-revision-hash` has the hash alone, without the set's name.
    pub short_hash: bool,
    /// `CloneSetPartitionRollback`: a raised partition brings updated pods back to the revision before.
    pub partition_rollback: bool,
    /// `PreparingUpdateAsUpdate`: a pod that a hook holds before its update counts as updated where pods are created or
    /// are too many.
    pub preparing_update_as_update: bool,
    /// `InPlaceUpdateEnvFromMetadata`: containers whose environment comes from changed labels or annotations are
    /// restarted in place.
    pub environment_in_place: bool,
    /// `InPlaceWorkloadVerticalScaling`: cpu and memory change in place. On here, off in OpenKruise.
    pub resize_in_place: bool,
    /// `RecreatePodWhenChangeVCTInCloneSetGate`: a new revision whose claims differ is not put into pods in place.
    pub recreate_for_claims: bool,
    /// `TemplateNoDefaults`: templates are left as they are written.
    pub template_no_defaults: bool,
    /// `PreDownloadImageForInPlaceUpdate`: images of a rollout in place are pulled beforehand.
    pub predownload: bool,
    /// `PreDownloadImageForDaemonSetUpdate`: the same for DaemonSets, whose pods stay on their nodes even if they are made anew.
    pub predownload_daemons: bool,
    /// `StatefulSetAutoDeletePVC`: claims go by `persistentVolumeClaimRetentionPolicy`.
    pub claims_by_policy: bool,
    /// `StatefulSetStartOrdinal`: ordinals begin with `ordinals.start`. On here, off in OpenKruise.
    pub start_ordinal: bool,
    /// `PodIndexLabel`: pods with an ordinal have it as a label.
    pub pod_index: bool,
    /// `StatefulSetAutoResizePVCGate`: claims grow by `volumeClaimUpdateStrategy`. On here, off in OpenKruise.
    pub grow_claims: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Self {
            short_hash: false,
            partition_rollback: false,
            preparing_update_as_update: false,
            environment_in_place: true,
            resize_in_place: true,
            recreate_for_claims: false,
            template_no_defaults: false,
            predownload: false,
            predownload_daemons: false,
            claims_by_policy: true,
            start_ordinal: true,
            pod_index: true,
            grow_claims: true,
        }
    }
}

/// Why a flag cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateError {
    /// OpenKruise has no gate of that name.
    Unknown {
        /// As it was written.
        name: String,
        /// Names that are much like it.
        close: Vec<&'static str>,
    },
    /// A name without a value.
    NoValue {
        /// As it was written.
        name: String,
    },
    /// A value that is neither true nor false.
    NotBoolean {
        /// Of which gate.
        name: String,
        /// As it was written.
        value: String,
    },
}

impl std::error::Error for GateError {}

impl fmt::Display for GateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, close } => {
                write!(f, "unknown feature gate {name:?}")?;
                match close.as_slice() {
                    [] => write!(f, ": OpenKruise 1.9.1 has none like it, see --help"),
                    names => write!(f, "; did you mean {}?", names.join(" or ")),
                }
            }
            Self::NoValue { name } => write!(f, "feature gate {name} has no value: write {name}=true or {name}=false"),
            Self::NotBoolean { name, value } => write!(f, "feature gate {name} is true or false, not {value:?}"),
        }
    }
}

impl Gates {
    /// Reads `Name=true,Name=false,…`. Also gives a sentence for each name that has no effect here.
    ///
    /// `AllAlpha` and `AllBeta` speak for all gates of their stage that are not named; the last of two values for one
    /// gate counts.
    ///
    /// # Errors
    /// A name that OpenKruise does not have, or a value that is neither true nor false.
    pub fn parse(flag: &str) -> Result<(Self, Vec<String>), GateError> {
        let mut named: BTreeMap<&'static str, bool> = BTreeMap::new();
        for entry in flag.split(',').filter(|entry| !entry.is_empty()) {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            let (name, value) = (name.trim(), value.trim());
            let known = names().find(|known| *known == name).ok_or_else(|| GateError::Unknown {
                name: name.to_owned(),
                close: close(name),
            })?;
            if !entry.contains('=') {
                return Err(GateError::NoValue { name: name.to_owned() });
            }
            named.insert(
                known,
                boolean(value).ok_or_else(|| GateError::NotBoolean {
                    name: name.to_owned(),
                    value: value.to_owned(),
                })?,
            );
        }
        let mut gates = Self::default();
        let mut set = |name: &str, value: bool| {
            if let Some(gate) = gates.gate(name) {
                *gate = value;
            }
        };
        let mut warnings = Vec::new();
        for (all, stage) in [(ALL_ALPHA, Stage::Alpha), (ALL_BETA, Stage::Beta)] {
            let Some(value) = named.get(all) else { continue };
            let meant = || {
                KNOWN
                    .iter()
                    .filter(|known| known.stage == stage && !named.contains_key(known.name))
            };
            meant().for_each(|known| set(known.name, *value));
            let missing = meant().filter(|known| *value && matches!(known.role, Role::Missing(_)));
            let missing: Vec<_> = missing.map(|known| known.name).collect();
            if !missing.is_empty() {
                warnings.push(format!("{all}=true has no effect for {}", missing.join(", ")));
            }
        }
        for known in KNOWN {
            let Some(value) = named.get(known.name) else { continue };
            set(known.name, *value);
            match known.role {
                Role::Acts(_) => {}
                // Off is what there is.
                Role::Missing(_) if !value => {}
                Role::Idle(why) | Role::Missing(why) => {
                    warnings.push(format!("{}={value} has no effect: {why}", known.name));
                }
            }
        }
        // OpenKruise's own rule, whatever was said of the gate itself.
        let daemon = named.get("KruiseDaemon").or(named.get(ALL_BETA));
        if daemon == Some(&false) {
            set("InPlaceUpdateEnvFromMetadata", false);
        }
        Ok((gates, warnings))
    }

    /// Whether a gate of OpenKruise is on under its flag, as its own manager reads it. False for a name that it does not have.
    pub fn is_on(flag: &str, name: &str) -> bool {
        let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
            return false;
        };
        let said = |name: &str| {
            let mut entries = flag.split(',').rev().filter_map(|entry| entry.split_once('='));
            let (_, value) = entries.find(|(key, _)| key.trim() == name)?;
            boolean(value.trim())
        };
        let all = match known.stage {
            Stage::Alpha => ALL_ALPHA,
            Stage::Beta => ALL_BETA,
        };
        said(name).or_else(|| said(all)).unwrap_or(known.default)
    }

    /// What `--help` says: each gate with its stage, its default and what it does.
    pub fn help() -> String {
        let mut ours = Self::default();
        let mut text = "Feature gates of OpenKruise, as Name=true,Name=false,…:".to_owned();
        for all in [ALL_ALPHA, ALL_BETA] {
            text.push_str(&format!("\n{all}=true|false: all that are not named"));
        }
        for known in KNOWN {
            let stage = match known.stage {
                Stage::Alpha => "ALPHA",
                Stage::Beta => "BETA",
            };
            let default = ours.gate(known.name).map_or(known.default, |gate| *gate);
            let role = match known.role {
                Role::Acts(what) => what.to_owned(),
                Role::Idle(why) | Role::Missing(why) => format!("no effect, {why}"),
            };
            text.push_str(&format!(
                "\n{}=true|false ({stage} - default={default}): {role}",
                known.name
            ));
        }
        text
    }

    fn gate(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "CloneSetShortHash" => &mut self.short_hash,
            "CloneSetPartitionRollback" => &mut self.partition_rollback,
            "PreparingUpdateAsUpdate" => &mut self.preparing_update_as_update,
            "InPlaceUpdateEnvFromMetadata" => &mut self.environment_in_place,
            "InPlaceWorkloadVerticalScaling" => &mut self.resize_in_place,
            "RecreatePodWhenChangeVCTInCloneSetGate" => &mut self.recreate_for_claims,
            "TemplateNoDefaults" => &mut self.template_no_defaults,
            "PreDownloadImageForInPlaceUpdate" => &mut self.predownload,
            "PreDownloadImageForDaemonSetUpdate" => &mut self.predownload_daemons,
            "StatefulSetAutoDeletePVC" => &mut self.claims_by_policy,
            "StatefulSetStartOrdinal" => &mut self.start_ordinal,
            "PodIndexLabel" => &mut self.pod_index,
            "StatefulSetAutoResizePVCGate" => &mut self.grow_claims,
            _ => return None,
        })
    }
}

/// As Go's `strconv.ParseBool` reads it; None: it is neither.
pub fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pkg/features/kruise_features.go` of OpenKruise 1.9.1 has 34; 1.8.0 lacks the two named here.
    #[test]
    fn the_list_is_openkruises() {
        assert_eq!(KNOWN.len(), 34);
        let on: Vec<_> = KNOWN
            .iter()
            .filter(|known| known.default)
            .map(|known| known.name)
            .collect();
        assert_eq!(
            on,
            [
                "PodWebhook",
                "KruiseDaemon",
                "DaemonWatchingPod",
                "WorkloadSpread",
                "PodUnavailableBudgetDeleteGate",
                "InPlaceUpdateEnvFromMetadata",
                "StatefulSetAutoDeletePVC",
                "PodProbeMarkerGate",
                "PodIndexLabel"
            ]
        );
        let mut beta_and_off = KNOWN
            .iter()
            .filter(|known| known.stage == Stage::Beta && !known.default);
        assert_eq!(
            beta_and_off.next().map(|known| known.name),
            Some("ResourcesDeletionProtection")
        );
        assert!(beta_and_off.next().is_none());
        for name in ["EnableSortSidecarContainerByName", "InPlacePodVerticalScaling"] {
            assert!(names().any(|known| known == name));
        }
    }

    #[test]
    fn values_are_read_as_kubernetes_does() {
        let read = |flag: &str| Gates::parse(flag).unwrap();
        assert_eq!(read(""), (Gates::default(), vec![]));
        let (gates, warnings) =
            read(" CloneSetShortHash = 1,,CloneSetPartitionRollback=True,CloneSetPartitionRollback=f");
        assert_eq!(
            (gates.short_hash, gates.partition_rollback, warnings.len()),
            (true, false, 0)
        );
        let (gates, _) =
            read("PreparingUpdateAsUpdate=false,AllAlpha=true,RecreatePodWhenChangeVCTInCloneSetGate=true");
        assert!(gates.short_hash && gates.recreate_for_claims && gates.partition_rollback);
        assert!(
            !gates.preparing_update_as_update,
            "a name goes before AllAlpha, wherever it stands"
        );
        assert!(!read("AllAlpha=false").0.resize_in_place);
        assert!(
            !read("InPlaceUpdateEnvFromMetadata=true,KruiseDaemon=false")
                .0
                .environment_in_place
        );
        assert!(!read("AllBeta=false").0.environment_in_place);
        assert!(
            read("AllBeta=false,KruiseDaemon=true,InPlaceUpdateEnvFromMetadata=true")
                .0
                .environment_in_place
        );
    }

    #[test]
    fn what_has_no_effect_is_said_once() {
        let said = |flag: &str| Gates::parse(flag).unwrap().1;
        assert_eq!(
            said("SidecarTerminator=true,PreDownloadImageForInPlaceUpdate=true,PodUnavailableBudgetUpdateGate=false"),
            [
                "PodUnavailableBudgetUpdateGate=false has no effect: each PodUnavailableBudget says what it guards",
                "SidecarTerminator=true has no effect: it is about sidecars of pods that end",
            ]
        );
        assert!(
            said("AllAlpha=true").is_empty(),
            "all that touch a workload have an effect"
        );
    }

    #[test]
    fn a_mistake_is_named() {
        let error = |flag: &str| Gates::parse(flag).unwrap_err().to_string();
        assert_eq!(
            error("ClonesetShortHsh=true"),
            "unknown feature gate \"ClonesetShortHsh\"; did you mean CloneSetShortHash?"
        );
        assert!(error("PreDownloadImage=true").contains("PreDownloadImageForInPlaceUpdate"));
        assert_eq!(
            error("Nonsense=true"),
            "unknown feature gate \"Nonsense\": OpenKruise 1.9.1 has none like it, see --help"
        );
        assert_eq!(
            error("CloneSetShortHash"),
            "feature gate CloneSetShortHash has no value: write CloneSetShortHash=true or CloneSetShortHash=false"
        );
        assert_eq!(
            error("CloneSetShortHash=yes"),
            "feature gate CloneSetShortHash is true or false, not \"yes\""
        );
    }

    #[test]
    fn help_names_each_gate() {
        let help = Gates::help();
        assert!(names().all(|name| help.contains(&format!("{name}=true|false"))));
        assert!(help.contains("InPlaceWorkloadVerticalScaling=true|false (ALPHA - default=true)"));
    }
}
