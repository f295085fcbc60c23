//! One container that exists, and what is known of it. Pure.

use afloat_runtime::Exit;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceRequirements;

use super::spec::ProbeKind;

/// What containerID begins with.
pub(crate) const CONTAINER_ID_SCHEME: &str = "afloat://";

/// An ended container, as the status tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) exit: Exit,
    pub(crate) started_at: Option<Timestamp>,
    /// `Completed` and its like.
    pub(crate) reason: String,
    pub(crate) message: Option<String>,
}

/// A container that exists.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    /// Name of its image for the status.
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) hash: String,
    pub(crate) stop_signal: String,
    pub(crate) process: Process,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) post_start: Hook,
    pub(crate) startup: ProbeTrack,
    pub(crate) liveness: ProbeTrack,
    pub(crate) readiness: ProbeTrack,
    pub(crate) stop: Option<Stop>,
    pub(crate) back_off_told: bool,
    /// Why the start failed (reason of its terminated state), if it did.
    pub(crate) start_error: Option<String>,
    /// What it left to be read of its end. None: it goes on, or nobody has looked yet.
    pub(crate) last_words: Option<String>,
    /// What it runs with. None: what it was granted.
    pub(crate) resources: Option<ResourceRequirements>,
    /// Why its resources could not be changed, and when to try again.
    pub(crate) resize_failed: Option<(String, Timestamp)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Process {
    Created,
    Running,
    Exited(Exit),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hook {
    #[default]
    Waiting,
    Running,
    Succeeded,
    Failed,
}

/// The two moments at which a container has a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum HookKind {
    PostStart,
    PreStop,
}

impl HookKind {
    /// As messages have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PostStart => "PostStartHook",
            Self::PreStop => "PreStopHook",
        }
    }

    /// The reason of the event about its failure.
    pub(crate) fn failed(self) -> &'static str {
        match self {
            Self::PostStart => "FailedPostStartHook",
            Self::PreStop => "FailedPreStopHook",
        }
    }
}

/// A container on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) why: Why,
    pub(crate) deadline: Timestamp,
    pub(crate) pre_stop: Hook,
    pub(crate) asked_at: Option<Timestamp>,
    pub(crate) killed_at: Option<Timestamp>,
}

/// Why a container is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The pod ends.
    PodEnds,
    /// Its name or image in the spec is another one now.
    DefinitionChanged,
    /// Liveness probe failed.
    LivenessFailed,
    /// Startup probe failed.
    StartupFailed,
    /// postStart hook failed.
    PostStartFailed,
    /// Its resources are other ones now, and it wants a restart for that.
    Resized,
}

impl Why {
    /// The container is made anew at once, whatever the pod's restart policy and its back-off.
    pub(crate) fn replaces(self) -> bool {
        matches!(self, Self::DefinitionChanged | Self::Resized)
    }
}

/// What a probe has said so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProbeTrack {
    /// The verdict, once a threshold was reached.
    pub(crate) result: Option<bool>,
    pub(crate) successes: u32,
    pub(crate) failures: u32,
    pub(crate) in_flight: bool,
    pub(crate) next_at: Option<Timestamp>,
    /// When a failure was last told as an event.
    pub(crate) told_at: Option<Timestamp>,
}

impl Instance {
    /// One that was just made, of a container with that hash: nothing is known of it yet.
    pub(crate) fn created(id: String, attempt: u32, hash: String) -> Self {
        Self {
            id,
            attempt,
            image: String::new(),
            image_id: String::new(),
            hash,
            stop_signal: String::new(),
            process: Process::Created,
            started_at: None,
            post_start: Hook::Waiting,
            startup: ProbeTrack::default(),
            liveness: ProbeTrack::default(),
            readiness: ProbeTrack::default(),
            stop: None,
            back_off_told: false,
            start_error: None,
            last_words: None,
            resources: None,
            resize_failed: None,
        }
    }

    pub(crate) fn alive(&self) -> bool {
        !matches!(self.process, Process::Exited(_))
    }

    pub(crate) fn running(&self) -> bool {
        self.process == Process::Running
    }

    pub(crate) fn exit(&self) -> Option<&Exit> {
        match &self.process {
            Process::Exited(exit) => Some(exit),
            _ => None,
        }
    }

    pub(crate) fn probe(&self, kind: ProbeKind) -> &ProbeTrack {
        match kind {
            ProbeKind::Startup => &self.startup,
            ProbeKind::Liveness => &self.liveness,
            ProbeKind::Readiness => &self.readiness,
        }
    }

    pub(crate) fn probe_mut(&mut self, kind: ProbeKind) -> &mut ProbeTrack {
        match kind {
            ProbeKind::Startup => &mut self.startup,
            ProbeKind::Liveness => &mut self.liveness,
            ProbeKind::Readiness => &mut self.readiness,
        }
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        let exit = self.exit()?.clone();
        let reason = match (&self.start_error, exit.oom_killed, exit.code) {
            (Some(_), ..) => "StartError",
            (None, true, _) => "OOMKilled",
            (None, false, 0) => "Completed",
            _ => "Error",
        };
        let words = self.last_words.as_ref().filter(|words| !words.is_empty());
        let parts: Vec<&str> = self.start_error.iter().chain(words).map(String::as_str).collect();
        Some(Ended {
            id: self.id.clone(),
            exit,
            started_at: self.started_at,
            reason: reason.to_owned(),
            message: (!parts.is_empty()).then(|| parts.join(": ")),
        })
    }
}
