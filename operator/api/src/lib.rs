//! The words of OpenKruise's API: types, annotations, labels, conditions, defaults.
