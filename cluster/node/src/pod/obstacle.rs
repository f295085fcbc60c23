//! Why a container cannot be created, and how that is told. Pure.

use std::fmt;

use jiff::Timestamp;

/// What is in the way. The names are the kubelet's (`pkg/kubelet/images`, `pkg/kubelet/kuberuntime`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    ErrImagePull,
    RegistryUnavailable,
    ErrImageNeverPull,
    InvalidImageName,
    CreateContainerConfigError,
    CreateContainerError,
}

impl Reason {
    /// The registry did not give the image: it is asked again, later and later.
    pub(crate) fn is_of_a_pull(self) -> bool {
        matches!(self, Self::ErrImagePull | Self::RegistryUnavailable)
    }

    /// The image is not here; it may come by another way.
    pub(crate) fn lacks_the_image(self) -> bool {
        self.is_of_a_pull() || self == Self::ErrImageNeverPull
    }

    fn word(self) -> &'static str {
        match self {
            Self::ErrImagePull => "ErrImagePull",
            Self::RegistryUnavailable => "RegistryUnavailable",
            Self::ErrImageNeverPull => "ErrImageNeverPull",
            Self::InvalidImageName => "InvalidImageName",
            Self::CreateContainerConfigError => "CreateContainerConfigError",
            Self::CreateContainerError => "CreateContainerError",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What keeps a container from being created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) since: Timestamp,
    pub(crate) retry_at: Timestamp,
    /// For an image that the node does not have: when to look for it again before `retry_at`.
    pub(crate) look_at: Option<Timestamp>,
    /// [`super::spec::hash`] of what could not be created; another one is tried at once.
    pub(crate) hash: String,
}

/// One attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// An event about the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }

    /// The events that the kubelet writes of it; `image`: as the pod names it.
    pub(crate) fn events(&self, image: &str) -> Vec<Told> {
        let Self { reason, message } = self;
        let warning = |reason, message| Told {
            warning: true,
            reason,
            message,
        };
        match reason {
            Reason::ErrImagePull | Reason::RegistryUnavailable => vec![
                warning("Failed", format!("Failed to pull image \"{image}\": {message}")),
                warning("Failed", format!("Error: {reason}")),
                Told {
                    warning: false,
                    reason: "BackOff",
                    message: format!("Back-off pulling image \"{image}\""),
                },
                warning("Failed", "Error: ImagePullBackOff".to_owned()),
            ],
            Reason::ErrImageNeverPull => vec![
                warning(reason.word(), message.clone()),
                warning("Failed", format!("Error: {reason}")),
            ],
            Reason::InvalidImageName => vec![
                warning("InspectFailed", message.clone()),
                warning("Failed", format!("Error: {reason}")),
            ],
            Reason::CreateContainerConfigError | Reason::CreateContainerError => {
                vec![warning("Failed", format!("Error: {message}"))]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `kubectl describe pod` shows them: type, reason, message.
    fn told(reason: Reason) -> Vec<String> {
        let events = Refusal::new(reason, "why").events("web:v1");
        let line = |told: Told| {
            let kind = if told.warning { "Warning" } else { "Normal" };
            format!("{kind} {} {}", told.reason, told.message)
        };
        events.into_iter().map(line).collect()
    }

    #[test]
    fn refusals_are_told_in_the_kubelets_words() {
        assert_eq!(
            told(Reason::ErrImagePull),
            [
                "Warning Failed Failed to pull image \"web:v1\": why",
                "Warning Failed Error: ErrImagePull",
                "Normal BackOff Back-off pulling image \"web:v1\"",
                "Warning Failed Error: ImagePullBackOff",
            ]
        );
        assert_eq!(
            told(Reason::ErrImageNeverPull),
            [
                "Warning ErrImageNeverPull why",
                "Warning Failed Error: ErrImageNeverPull"
            ]
        );
        assert_eq!(
            told(Reason::InvalidImageName),
            ["Warning InspectFailed why", "Warning Failed Error: InvalidImageName"]
        );
        assert_eq!(told(Reason::CreateContainerConfigError), ["Warning Failed Error: why"]);
    }
}
