//! What every namespace gets when it comes, and loses when it goes.

pub(crate) mod deletion;
pub(crate) mod serviceaccount;
