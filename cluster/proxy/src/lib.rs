//! The service proxy of one node: Services become sockets.
