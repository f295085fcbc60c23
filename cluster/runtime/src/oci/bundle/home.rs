//! `HOME`, where nobody says otherwise: that of the user in the image, or `/`, as runc sets it.

use std::io::Read as _;
use std::path::Path;

use crate::below::{open_file, plain};
use crate::container::ContainerSpec;

/// A larger list of users is not read to its end.
const PASSWD_BYTES_MAX: u64 = 1 << 20;

/// The specification with `HOME` in its environment. Where a mount hides the image's list of users, libcontainer looks into
/// that one.
pub(crate) fn with_home(spec: &ContainerSpec, root: &Path) -> ContainerSpec {
    let mut spec = spec.clone();
    let said = |variable: &String| variable.strip_prefix("HOME=").is_some_and(|home| !home.is_empty());
    let hidden = spec.mounts.iter().any(|mount| {
        let target = plain(&mount.target);
        Path::new("etc/passwd").starts_with(target)
    });
    if hidden || spec.env.iter().any(said) {
        return spec;
    }
    let mut passwd = Vec::new();
    // An image without the list has no user in it.
    if let Ok(file) = open_file(root, Path::new("etc/passwd")) {
        let _ = file.take(PASSWD_BYTES_MAX).read_to_end(&mut passwd);
    }
    let home = home(&String::from_utf8_lossy(&passwd), spec.uid).to_owned();
    spec.env.retain(|variable| !variable.starts_with("HOME="));
    spec.env.push(format!("HOME={home}"));
    spec
}

/// passwd(5). Pure.
fn home(passwd: &str, uid: u32) -> &str {
    fn of(line: &str, uid: u32) -> Option<&str> {
        let mut fields = line.split(':').skip(2);
        let found = fields.next()?.parse() == Ok(uid);
        fields.nth(2).filter(|home| found && !home.is_empty())
    }
    passwd.lines().find_map(|line| of(line, uid)).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::container::Mount;
    use crate::oci::bundle::spec::tests::spec;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nodd\nweb:x:101:101::/var/lib/web:/bin/false\nnone:x:7:7:::\n";

    #[test]
    fn a_user_has_its_home_and_a_stranger_the_root() {
        for (uid, expected) in [(0, "/root"), (101, "/var/lib/web"), (7, "/"), (65_532, "/")] {
            assert_eq!(home(PASSWD, uid), expected, "{uid}");
        }
        assert_eq!(home("", 0), "/");
    }

    #[test]
    fn what_is_said_counts_and_what_hides_the_list_is_looked_into_later() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), PASSWD).unwrap();
        let with = |env: &str, target: &str| {
            let mut asked = spec();
            (asked.uid, asked.env) = (101, vec!["PATH=/bin".into(), env.into()]);
            asked.mounts = vec![Mount {
                source: "/a".into(),
                found: None,
                target: target.into(),
                read_only: true,
            }];
            with_home(&asked, root.path()).env[1..].join(" ")
        };
        assert_eq!(with("A=b", "/data"), "A=b HOME=/var/lib/web");
        assert_eq!(with("HOME=", "/data"), "HOME=/var/lib/web");
        assert_eq!(with("HOME=/x", "/data"), "HOME=/x");
        assert_eq!(with("A=b", "/etc/passwd"), "A=b");
        assert_eq!(with("A=b", "/etc"), "A=b");
    }
}
