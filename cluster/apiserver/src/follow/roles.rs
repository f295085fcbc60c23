//! The roles and bindings that count.

use afloat_machinery::authorization::Roles;
use serde_json::Value;

use super::Follows;

impl Follows for Roles {
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
