//! What the nodes' pods refer to, and whose volumes are whose.

use afloat_machinery::authorization::nodes::{PodLinks, VolumeLinks};
use serde_json::Value;

use super::Follows;

impl Follows for PodLinks {
    fn put(&mut self, _key: &str, object: &Value) {
        Self::put(self, object);
    }

    fn removed(&mut self, _key: &str, last: &Value) {
        self.remove(last);
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Follows for VolumeLinks {
    fn put(&mut self, _key: &str, object: &Value) {
        Self::put(self, object);
    }

    fn removed(&mut self, _key: &str, last: &Value) {
        self.remove(last);
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}
