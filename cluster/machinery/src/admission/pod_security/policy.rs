//! Levels, versions, and the labels that name them.

use std::fmt;

use serde_json::Value;

use crate::FieldError;
use crate::field::invalid;

const LABEL_PREFIX: &str = "pod-security.kubernetes.io/";

/// How much is forbidden; the later, the more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    Privileged,
    /// What is known to give privileges.
    Baseline,
    /// What is not hardened.
    Restricted,
}

/// Of which version of Kubernetes the rules are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `v1.N`
    Minor(i64),
    /// The newest that is known.
    Latest,
}

/// `restricted:v1.32`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelVersion {
    /// How much is forbidden.
    pub level: Level,
    /// By the rules of which version.
    pub version: Version,
}

/// What a namespace asks of its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    /// What is refused.
    pub(super) enforce: LevelVersion,
    /// What is noted.
    pub(super) audit: LevelVersion,
    /// What clients are warned of.
    pub(super) warn: LevelVersion,
}

const PRIVILEGED: LevelVersion = LevelVersion {
    level: Level::Privileged,
    version: Version::Latest,
};

impl fmt::Display for LevelVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(formatter, "{level}:latest"),
            Version::Minor(minor) => write!(formatter, "{level}:v1.{minor}"),
        }
    }
}

fn level(text: &str) -> Result<Level, &'static str> {
    match text {
        "privileged" => Ok(Level::Privileged),
        "baseline" => Ok(Level::Baseline),
        "restricted" => Ok(Level::Restricted),
        _ => Err("must be one of privileged, baseline, restricted"),
    }
}

fn version(text: &str) -> Result<Version, &'static str> {
    if text == "latest" {
        return Ok(Version::Latest);
    }
    let minor = text
        .strip_prefix("v1.")
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|digits| *digits == "0" || !digits.starts_with('0'));
    let minor = minor.and_then(|digits| digits.parse().ok()).map(Version::Minor);
    minor.ok_or("must be \"latest\" or \"v1.x\"")
}

/// The labels of one mode, read into a policy that is the default.
struct Mode {
    policy: LevelVersion,
    /// A level is given, a good one is given, a version is given.
    has_level: bool,
    good_level: bool,
    has_version: bool,
}

/// Reads the labels of a mode; a wrong level counts as `fallback`, a wrong version as the latest.
fn mode(labels: &Value, name: &str, fallback: Level, errors: &mut Vec<FieldError>) -> Mode {
    let read = |suffix: &str| {
        let key = format!("{LABEL_PREFIX}{name}{suffix}");
        let text = labels.get(&key).and_then(Value::as_str)?;
        let wrong = move |why: &str| invalid(format!("metadata.labels[{key}]"), text, why);
        Some((text, wrong))
    };
    let (given_level, given_version) = (read(""), read("-version"));
    let mut mode = Mode {
        policy: PRIVILEGED,
        has_level: given_level.is_some(),
        good_level: false,
        has_version: given_version.is_some(),
    };
    if let Some((text, wrong)) = given_level {
        match level(text) {
            Ok(level) => (mode.policy.level, mode.good_level) = (level, true),
            Err(why) => {
                mode.policy.level = fallback;
                errors.push(wrong(why));
            }
        }
    }
    if let Some((text, wrong)) = given_version {
        match version(text) {
            Ok(version) => mode.policy.version = version,
            Err(why) => errors.push(wrong(why)),
        }
    }
    mode
}

impl Policy {
    /// What a namespace with these labels asks, and what is wrong with the labels: a level of `enforce` that cannot be read is taken
    /// for the strictest, one of `audit` and `warn` for the mildest.
    pub(super) fn of(labels: &Value) -> (Self, Vec<FieldError>) {
        let mut errors = Vec::new();
        let enforce = mode(labels, "enforce", Level::Restricted, &mut errors);
        let audit = mode(labels, "audit", Level::Privileged, &mut errors);
        let warn = mode(labels, "warn", Level::Privileged, &mut errors);
        let mut policy = Self {
            enforce: enforce.policy,
            audit: audit.policy,
            warn: warn.policy,
        };
        // Whoever asks for strictness is warned of what will be refused, unless they want it otherwise.
        if !warn.has_level && enforce.good_level && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if !warn.has_version {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    /// Whether neither pods nor templates are looked at.
    pub(super) fn is_privileged(&self) -> bool {
        self.enforce.level == Level::Privileged && self.tells_nobody()
    }

    /// Whether templates are not looked at.
    pub(super) fn tells_nobody(&self) -> bool {
        self.audit.level == Level::Privileged && self.warn.level == Level::Privileged
    }
}
