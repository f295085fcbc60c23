//! CloneSet: its pods, claims and revisions are those that it controls, and the words are those that every kind has.

use afloat_api::CloneSet;

use crate::kind::Kind;

impl Kind for CloneSet {
    const COMPONENT: &'static str = "cloneset-controller";
}
