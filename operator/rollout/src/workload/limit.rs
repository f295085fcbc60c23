//! What a workload allows its rollouts to lose, and what it wants when more is lost.

use afloat_api::names;

use super::owner::Owner;

/// How much a rollout may lose.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// So many connections.
    Count(u64),
    /// So many of a hundred, rounded up.
    Percent(f64),
}

impl Limit {
    /// What a workload allows; None if it says nothing. Text that means nothing allows nothing: whoever wrote it wanted a
    /// limit.
    pub fn of(owner: Owner<'_>) -> Option<Self> {
        let text = owner.annotation(names::MAX_LOSS)?;
        Some(Self::read(text).unwrap_or(Self::Count(0)))
    }

    /// Reads "3" or "0.1%".
    pub fn read(text: &str) -> Option<Self> {
        match text.trim().strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim().parse().ok()?;
                (0.0..=100.0).contains(&percent).then_some(Self::Percent(percent))
            }
            None => text.trim().parse().ok().map(Self::Count),
        }
    }

    /// How many of so many connections may be lost.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // rounded, in range
    pub fn allows(self, connections: u64) -> u64 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => (connections as f64 * percent / 100.0).ceil() as u64,
        }
    }
}

/// Whether the workload wants its pods back at their old revision when more is lost than it allows.
pub fn rolls_back(owner: Owner<'_>) -> bool {
    owner.annotation(names::ON_LOSS) == Some(names::ON_LOSS_ROLLBACK)
}

/// Sentences about annotations that mean nothing.
pub fn misspelt(owner: Owner<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(text) = owner
        .annotation(names::MAX_LOSS)
        .filter(|text| Limit::read(text).is_none())
    {
        found.push(format!(
            "annotation {} is {text:?}, which is neither a number nor a percentage up to 100%: nothing may be lost",
            names::MAX_LOSS
        ));
    }
    let actions = [names::ON_LOSS_PAUSE, names::ON_LOSS_ROLLBACK];
    if let Some(text) = owner.annotation(names::ON_LOSS).filter(|text| !actions.contains(text)) {
        found.push(format!(
            "annotation {} is {text:?}, which means nothing: say {}; taken for {}",
            names::ON_LOSS,
            actions.join(" or "),
            names::ON_LOSS_PAUSE
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_numbers_and_percentages() {
        assert_eq!(Limit::read("0"), Some(Limit::Count(0)));
        assert_eq!(Limit::read(" 12 "), Some(Limit::Count(12)));
        assert_eq!(Limit::read("0.1%").unwrap().allows(10_000), 10);
        assert_eq!(Limit::read("0.1%").unwrap().allows(5), 1, "rounded up");
        assert_eq!(Limit::read("0%").unwrap().allows(5), 0);
        for text in ["", "x", "-1", "101%", "%", "nan%", "1.5"] {
            assert_eq!(Limit::read(text), None, "{text}");
        }
    }
}
