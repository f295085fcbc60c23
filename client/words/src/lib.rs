//! The words that every client of Kubernetes reads and writes, once: exact quantities, names of images, pull secrets, keys, owners,
//! revisions, percentages, schedules, times as text. Pure: no I/O, no clock, no async, no logging. It knows neither half of Afloat; both
//! may use it.

pub mod affinity;
pub mod annotation;
pub mod daemon;
pub mod environment;
#[cfg(test)]
mod fuzz;
pub mod http_get;
pub mod image;
pub mod key;
pub mod keyring;
pub mod owner;
pub mod percent;
pub mod progress;
pub mod quantity;
pub mod quoted;
pub mod revision;
pub mod schedule;
pub mod taint;
pub mod texts;
pub mod time;
