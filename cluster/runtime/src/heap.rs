//! The allocator's free memory goes back to the system. glibc keeps what was freed in the middle of its heap, so that a process that
//! was busy once stays as large as it was then.

/// Gives all free pages back. Takes some milliseconds on a heap of 50 MiB, so not for async threads. Does nothing with a
/// C library other than glibc.
#[allow(unsafe_code)] // a call of the C library
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim takes its own locks and touches nothing that is allocated (malloc_trim(3)).
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// For a process that shall stay small rather than allocate on many threads at once; to be called before there are others.
/// There is one heap for all threads, because free memory of one heap is of no use to another. Large blocks come
/// from the system and go back there one by one: by itself glibc stops doing that with the first such block that is
/// freed, and then large blocks of a moment leave holes in the heap.
#[allow(unsafe_code)] // calls of the C library
pub fn keep_compact() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt takes its own locks (mallopt(3)).
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1);
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, SPARE_BYTES);
        nix::libc::mallopt(nix::libc::M_TOP_PAD, STEP_BYTES);
    }
}

/// What may be free at the end of the heap before it goes back by itself; [`trim`] gives it back when the work is done. With less the
/// heap would be cut and grown again with each object that is read.
#[cfg(target_env = "gnu")]
const SPARE_BYTES: nix::libc::c_int = 2 * 1024 * 1024;
/// What the heap grows by.
#[cfg(target_env = "gnu")]
const STEP_BYTES: nix::libc::c_int = 256 * 1024;
/// From this size on a block is large.
const LARGE_BYTES: nix::libc::c_int = 128 * 1024;
