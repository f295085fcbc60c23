//! Situations and what the plan makes of them.
