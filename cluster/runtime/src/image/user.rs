//! Users as images and pods name them, to numbers. Pure.

/// Numeric (uid, gid, additional groups) of `user` or `user:group`, each a name or a number, given the texts of the image's
/// `/etc/passwd` and `/etc/group`. An empty user is root. A number need not be in the files; its group is 0 then.
///
/// # Errors
/// The name is in neither file, as a sentence.
pub(crate) fn resolve_user(user: &str, passwd: &str, group: &str) -> Result<(u32, u32, Vec<u32>), String> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    // A number is one also where somebody is called that.
    let number = user.parse::<u32>().ok();
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid, gid) = (
            *fields.first()?,
            fields.get(2)?.parse::<u32>().ok()?,
            fields.get(3)?.parse::<u32>().ok()?,
        );
        number
            .map_or(name == user, |number| number == uid)
            .then_some((name, uid, gid))
    });
    let (name, uid, gid) = match (entry, number) {
        (Some(entry), _) => entry,
        (None, Some(uid)) => (user, uid, 0),
        (None, None) => return Err(format!("no user {user:?} in the image's /etc/passwd")),
    };
    if let Some(wanted) = wanted_group.filter(|g| !g.is_empty()) {
        let gid = match wanted.parse() {
            Ok(gid) => gid,
            Err(_) => groups(group)
                .find(|(n, _, _)| *n == wanted)
                .map(|(_, gid, _)| gid)
                .ok_or_else(|| format!("no group {wanted:?} in the image's /etc/group"))?,
        };
        // As Docker does: a group that was named stands alone.
        return Ok((uid, gid, Vec::new()));
    }
    let mut additional: Vec<u32> = groups(group)
        .filter(|(_, id, members)| *id != gid && members.split(',').any(|m| m == name))
        .map(|(_, id, _)| id)
        .collect();
    additional.sort_unstable();
    additional.dedup();
    Ok((uid, gid, additional))
}

fn groups(text: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        Some((
            *fields.first()?,
            fields.get(2)?.parse().ok()?,
            fields.get(3).copied().unwrap_or(""),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\nodd\n7:x:9:9::/:/bin/sh\nweb:x:101:102::/:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:4:web,other\ntls:x:9:web\n";

    #[test]
    fn names_and_numbers() {
        for (user, expected) in [
            ("", Ok((0, 0, vec![]))),
            ("web", Ok((101, 102, vec![4, 9]))),
            ("101", Ok((101, 102, vec![4, 9]))),
            ("web:logs", Ok((101, 4, vec![]))),
            ("1000", Ok((1000, 0, vec![]))),
            ("7", Ok((7, 0, vec![]))),
            (":logs", Ok((0, 4, vec![]))),
            ("web:", Ok((101, 102, vec![4, 9]))),
            ("1000:7", Ok((1000, 7, vec![]))),
            (
                "nobody",
                Err("no user \"nobody\" in the image's /etc/passwd".to_owned()),
            ),
            ("web:x", Err("no group \"x\" in the image's /etc/group".to_owned())),
        ] {
            assert_eq!(resolve_user(user, PASSWD, GROUP), expected);
        }
        assert_eq!(resolve_user("", "", ""), Ok((0, 0, vec![])), "an image without files");
    }
}
