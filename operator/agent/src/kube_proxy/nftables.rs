//! Mode `nftables`: what `nft -j list table ip kube-proxy` (for IPv6 `ip6`) prints.
//!
//! Base chains look services up in the verdict map `service-ips` (and `service-nodeports`), whose elements go to chains
//! `service-…`, and those by a random number to chains `endpoint-…` with a `dnat`. See kubernetes
//! pkg/proxy/nftables/README.md; the JSON is that of libnftables-json(5).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use serde::de::{Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::chains::Chains;

/// The addresses that new connections may be sent to.
///
/// # Errors
/// If the text is not what nft prints.
pub fn routed(json: &[u8]) -> Result<BTreeSet<IpAddr>, serde_json::Error> {
    let mut table = Table::default();
    serde_json::Deserializer::from_slice(json).deserialize_map(Document(&mut table))?;
    Ok(table.chains.reached(table.hooks.iter().map(String::as_str)))
}

#[derive(Default)]
struct Table {
    chains: Chains,
    /// Chains where packets come in.
    hooks: Vec<String>,
}

impl Table {
    /// One of the table's parts. Verdict maps count as chains, named with the @ that rules refer to them by.
    fn part(&mut self, part: &Value) {
        if let Some(chain) = part.get("chain").filter(|chain| chain.get("hook").is_some()) {
            self.hooks.extend(text(chain, "name").map(str::to_owned));
        }
        if let Some(rule) = part.get("rule")
            && let (Some(chain), Some(expressions)) = (text(rule, "chain"), rule.get("expr"))
        {
            self.expression(chain, expressions);
        }
        if let Some(map) = part.get("map")
            && let (Some(name), Some(elements)) = (text(map, "name"), map.get("elem"))
        {
            self.expression(&format!("@{name}"), elements);
        }
    }

    fn expression(&mut self, chain: &str, value: &Value) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.expression(chain, value)),
            Value::Object(object) => {
                for (key, value) in object {
                    match key.as_str() {
                        "jump" | "goto" => {
                            if let Some(target) = text(value, "target") {
                                self.chains.jump(chain, target);
                            }
                        }
                        "dnat" => {
                            let address = text(value, "addr").and_then(|address| address.parse().ok());
                            if let Some(address) = address {
                                self.chains.send(chain, address);
                            }
                        }
                        "vmap" => match text(value, "data") {
                            Some(map) => self.chains.jump(chain, map),
                            None => self.expression(chain, value),
                        },
                        _ => self.expression(chain, value),
                    }
                }
            }
            _ => {}
        }
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

/// Takes the parts one after the other, so that never the whole document is in memory as values.
struct Document<'a>(&'a mut Table);

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the list nftables")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "nftables" {
                map.next_value_seed(Parts(self.0))?;
                found = true;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        found
            .then_some(())
            .ok_or_else(|| serde::de::Error::missing_field("nftables"))
    }
}

struct Parts<'a>(&'a mut Table);

impl<'de> serde::de::DeserializeSeed<'de> for Parts<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Parts<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the parts of a table")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<(), A::Error> {
        while let Some(part) = parts.next_element::<Value>()? {
            self.0.part(&part);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
