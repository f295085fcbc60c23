//! Bridges, pod network namespaces, addresses.
