//! What the kubelets are asked.

mod proxy;
mod usage;
