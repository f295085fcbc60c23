//! Containers through an OCI runtime command line.
