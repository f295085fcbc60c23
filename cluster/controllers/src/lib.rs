//! The standard Kubernetes loops of the embedded cluster: `plan()` above, loop below, one file each.
