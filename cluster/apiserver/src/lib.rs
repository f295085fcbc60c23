//! HTTP in, Kubernetes out: a generic API server as one tower service.
