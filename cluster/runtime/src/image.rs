//! Images: built from files, loaded, stored once per layer.
