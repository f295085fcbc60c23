//! Which containers are meant.

use std::collections::BTreeSet;

/// The containers that are meant, each of which must be there.
pub(super) fn chosen(there: &[String], wanted: &[String]) -> anyhow::Result<Vec<String>> {
    for name in wanted {
        anyhow::ensure!(
            there.contains(name),
            "no container {name:?} in spec.containers: there is {}",
            there.join(", ")
        );
    }
    let mut chosen = if wanted.is_empty() { there } else { wanted }.to_vec();
    let mut seen = BTreeSet::new();
    chosen.retain(|name| seen.insert(name.clone()));
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_have_to_be_there_and_come_once() {
        let texts = |all: &[&str]| all.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let there = texts(&["app", "log"]);
        assert_eq!(chosen(&there, &[]).unwrap(), there);
        assert_eq!(chosen(&there, &texts(&["log", "log"])).unwrap(), ["log"]);
        let error = chosen(&there, &texts(&["web"])).unwrap_err().to_string();
        assert_eq!(error, "no container \"web\" in spec.containers: there is app, log");
    }
}
