//! What this process may do: capabilities and mapped users.

use std::fs;

use crate::container::ContainerSpec;
use crate::runtime::RuntimeError;

/// Read once; none of it changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostFacts {
    /// Effective capabilities, as a bit set.
    pub(crate) capabilities: u64,
    uids: Vec<(u32, u32)>,
    gids: Vec<(u32, u32)>,
    setgroups: bool,
}

impl HostFacts {
    pub(crate) fn read() -> Self {
        let text = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        Self {
            capabilities: parse_capabilities(&text("status")),
            uids: parse_map(&text("uid_map")),
            gids: parse_map(&text("gid_map")),
            setgroups: text("setgroups").trim() != "deny",
        }
    }

    pub(crate) fn has_group(&self, gid: u32) -> bool {
        mapped(&self.gids, gid)
    }

    /// Without root only mapped users exist: better one clear sentence than `failed syscall`.
    pub(crate) fn check(&self, spec: &ContainerSpec) -> Result<(), RuntimeError> {
        let groups = std::iter::once(&spec.gid).chain(&spec.additional_gids);
        let missing_group = groups.into_iter().find(|gid| !mapped(&self.gids, **gid));
        let what = if !mapped(&self.uids, spec.uid) {
            format!("user {}", spec.uid)
        } else if let Some(gid) = missing_group {
            format!("group {gid}")
        } else if !self.setgroups && !spec.additional_gids.is_empty() {
            "additional groups".to_owned()
        } else {
            return Ok(());
        };
        Err(RuntimeError::Invalid(format!(
            "container {} wants {what}, but without root only user 0 exists inside. Install newuidmap and newgidmap (package \
             uidmap), give this user a range in /etc/subuid and /etc/subgid, and start again; or run as root",
            spec.name
        )))
    }
}

fn mapped(map: &[(u32, u32)], id: u32) -> bool {
    map.iter()
        .any(|(first, count)| id.checked_sub(*first).is_some_and(|offset| offset < *count))
}

/// Lines of `inside outside count` (user_namespaces(7)).
fn parse_map(text: &str) -> Vec<(u32, u32)> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let first = fields.next()?.parse().ok()?;
            Some((first, fields.nth(1)?.parse().ok()?))
        })
        .collect()
}

fn parse_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_say_who_exists() {
        let one = parse_map("         0       1000          1\n");
        assert!(mapped(&one, 0) && !mapped(&one, 1));
        let range = parse_map("0 1000 1\n1 100000 65535\n");
        assert!(mapped(&range, 65_535) && !mapped(&range, 65_536));
        assert!(mapped(&parse_map("0 0 4294967295"), 4_000_000_000));
    }

    #[test]
    fn capabilities_are_read() {
        assert_eq!(
            parse_capabilities("Name:\tx\nCapEff:\t000001fffeffffff\n"),
            0x01ff_feff_ffff
        );
    }
}
