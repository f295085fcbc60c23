//! What to do next, given what is seen. Pure: no I/O, no clock, no async, no logging.
//!
//! Start with [`cloneset::plan()`]: `plan(&CloneSet, &Observed) -> Plan`. Everything else answers one question for it. Rooms, each of
//! which knows only those before it, and none of the kinds' rooms another:
//!
//! * [`config`]: ConfigMaps and Secrets as a part of the template;
//! * [`pod`]: one pod's way from one template to another;
//! * [`workload`]: many pods of one owner, whatever its kind is;
//! * [`cloneset`]: pods without names of their own, and their claims;
//! * [`statefulset`]: a pod for each ordinal, with its claims;
//! * [`daemonset`]: one pod on every node that suits.
//!
//! [`kinds`] is the table of those rooms.
//!
//! A plan is recomputed from what is observed and never resumed; each of its actions names the version of the object that
//! it was decided on.

pub mod action;
pub mod cloneset;
pub mod config;
pub mod daemonset;
pub mod go;
pub mod kinds;
pub mod pod;
pub mod statefulset;
pub mod texts;
pub mod workload;
