//! In which version sets are written.

use clap::ValueEnum;

/// A version of the kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ApiVersion {
    V1alpha1,
    #[default]
    V1beta1,
}

impl ApiVersion {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1alpha1 => "v1alpha1",
            Self::V1beta1 => "v1beta1",
        }
    }
}
