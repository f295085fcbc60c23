//! A real node's runtime by CRI v1 over its Unix socket: containerd, CRI-O, cri-dockerd.
//!
//! The socket gives whoever may connect to it the rights of the node. So it is asked for no more than [`crate::runtime`] needs, and
//! never to make or remove anything but images' layers by a pull. A runtime that is restarted is connected to again at the next
//! request.

mod channel;
mod proto;
mod read;
