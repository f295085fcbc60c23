//! PodUnavailableBudgets: every state of small worlds, with what is counted, asked and taken by `afloat-disruption` itself.
//!
//! A state holds the pods as they are and as the operator's cache has them, the budget with its notes, up to two requests on their way (each
//! at another instance of the webhook), and the time. Each possible move of each state is made: somebody deletes, evicts, updates or resizes a pod, directly
//! or by a round that takes of the budget first; the webhook reads the budget, and writes what it took if nobody was faster; the API server carries
//! out what was let go, asks again about a pod that is another by now, or somebody else refuses it; pods become unready by themselves, are made anew
//! under their name, or are to be replaced; the budget is edited; the cache catches up; the loop counts.
//!
//! Checked: whenever one more pod is let go, as many remain as the budget wants, not counting against it those that are away by themselves and
//! that nobody has counted; a refusal notes nothing; no note is held against another pod of the name; and from every state, once all is quiet and twenty
//! seconds have passed, no note is left, the numbers are what they are worked out to be otherwise, and nothing is written any more.
//!
//! What keeps it finite: a second passes a limited number of times, and ten seconds only when no request is on its way and the cache is
//! not behind (it lags by less, requests take less, and so do nodes where only readiness tells what they do); an eviction of a pod that is not available takes place on that version of the pod, as with
//! Kubernetes where a PodDisruptionBudget is about it; there is one budget, and all pods bear its name.

mod check;
mod moves;
mod planted;
mod real;
mod search;
mod setup;
mod tests;
