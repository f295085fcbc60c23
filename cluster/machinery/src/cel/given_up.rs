//! Whether anybody still waits for the outcome. Evaluating goes through an evaluator that knows nothing of it, on one thread, so the word is
//! left with the thread.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

thread_local! {
    static GIVEN_UP: RefCell<Option<Arc<AtomicBool>>> = const { RefCell::new(None) };
}

/// Runs `work`. Expressions that it evaluates end with an error as soon as `given_up` is true.
pub fn until_given_up<T>(given_up: &Arc<AtomicBool>, work: impl FnOnce() -> T) -> T {
    /// Leaves the thread as it was, also if the work panics.
    struct Before(Option<Arc<AtomicBool>>);
    impl Drop for Before {
        fn drop(&mut self) {
            GIVEN_UP.set(self.0.take());
        }
    }
    let _before = Before(GIVEN_UP.replace(Some(Arc::clone(given_up))));
    work()
}

/// Whether it is so for what runs now.
pub(super) fn is_given_up() -> bool {
    GIVEN_UP.with_borrow(|flag| flag.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed)))
}
