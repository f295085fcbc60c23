//! What all kinds have in common, asked of each: names, and what a rollout does when something is lost on the way.

mod losses;
mod scene;

use super::*;

#[test]
fn a_kind_is_found_by_each_of_its_names_and_no_name_is_two_kinds() {
    for names in KINDS {
        let all = [names.kind, names.plural]
            .into_iter()
            .chain(names.short.iter().copied());
        for name in all {
            assert_eq!(called(name), Some(*names), "{name}");
            assert_eq!(called(&format!("{name}.apps.kruise.io")), Some(*names), "{name}");
        }
    }
    assert_eq!(called("deployment"), None);
    assert!(!is_ours("apps/v1", CloneSet::KIND));
    assert!(is_ours("apps.kruise.io/v1alpha1", CloneSet::KIND));
}
