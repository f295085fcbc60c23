//! The operator's hands: watches, patches, events.
