//! Acting as somebody else (`kubectl --as`): what a request's headers ask for, what one must be allowed for it, and who one is then.
//!
//! Source: <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>.

use std::collections::BTreeMap;

use super::attributes::Attributes;
use super::user::{AUTHENTICATED, UNAUTHENTICATED, User};
use crate::names;

const AUTHENTICATION: &str = "authentication.k8s.io";
/// What the names of all these headers begin with, in lower case.
pub const HEADER_PREFIX: &str = "impersonate-";
const EXTRA_PREFIX: &str = "impersonate-extra-";

/// Whom somebody wants to act as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Impersonation {
    name: String,
    /// Namespace and name, if it is a service account.
    account: Option<(String, String)>,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
}

impl Impersonation {
    /// Reads a request's headers: names in lower case, and values. None: it asks for nothing of the kind.
    ///
    /// # Errors
    /// If groups, a uid or more are asked for, but no user.
    pub fn read<'a>(headers: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Option<Self>, String> {
        let mut asked = Self::default();
        for (header, value) in headers {
            match header {
                "impersonate-user" if asked.name.is_empty() => value.clone_into(&mut asked.name),
                "impersonate-group" => asked.groups.push(value.to_owned()),
                "impersonate-uid" if asked.uid.is_empty() => value.clone_into(&mut asked.uid),
                other => {
                    let Some(key) = other.strip_prefix(EXTRA_PREFIX) else {
                        continue;
                    };
                    asked.extra.entry(unescaped(key)).or_default().push(value.to_owned());
                }
            }
        }
        if asked.name.is_empty() {
            return match asked == Self::default() {
                true => Ok(None),
                false => Err("requested groups, a uid or extra fields without impersonating a user".to_owned()),
            };
        }
        asked.account = account(&asked.name);
        Ok(Some(asked))
    }

    /// All that `by` must be allowed.
    pub fn attributes<'a>(&'a self, by: &'a User) -> Vec<Attributes<'a>> {
        let about = |group, resource| Attributes {
            version: "",
            ..Attributes::resource(by, "impersonate", group, resource)
        };
        let mut all = vec![match &self.account {
            Some((namespace, name)) => Attributes {
                namespace,
                name,
                ..about("", "serviceaccounts")
            },
            None => Attributes {
                name: &self.name,
                ..about("", "users")
            },
        }];
        all.extend(self.groups.iter().map(|name| Attributes {
            name,
            ..about("", "groups")
        }));
        for (key, values) in &self.extra {
            all.extend(values.iter().map(|name| Attributes {
                subresource: key,
                name,
                version: "v1",
                ..about(AUTHENTICATION, "userextras")
            }));
        }
        if !self.uid.is_empty() {
            all.push(Attributes {
                name: &self.uid,
                version: "v1",
                ..about(AUTHENTICATION, "uids")
            });
        }
        all
    }

    /// Who one is then: a service account without groups has those of all service accounts, and everybody who has a name is
    /// authenticated, unless the groups say otherwise.
    pub fn user(self) -> User {
        let mut user = User {
            groups: self.groups,
            uid: self.uid,
            extra: self.extra,
            ..User::default()
        };
        if let Some((namespace, name)) = self.account.filter(|_| user.groups.is_empty()) {
            user.groups = User::service_account(&namespace, &name).groups;
            user.groups.retain(|group| group != AUTHENTICATED);
        }
        let anonymous = User::anonymous();
        let implied = if self.name == anonymous.name {
            (!user.is_in(UNAUTHENTICATED)).then_some(UNAUTHENTICATED)
        } else {
            (!user.is_in(AUTHENTICATED) && !user.is_in(UNAUTHENTICATED)).then_some(AUTHENTICATED)
        };
        user.groups.extend(implied.map(str::to_owned));
        user.name = self.name;
        user
    }
}

/// Namespace and name of a service account, if this is the name of one's user.
fn account(user: &str) -> Option<(String, String)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let good = names::dns_label(namespace).is_empty() && names::dns_subdomain(name).is_empty();
    good.then(|| (namespace.to_owned(), name.to_owned()))
}

/// Keys of what else is known hold what a header's name cannot: it is escaped as in a path. What is not, is taken as it is.
fn unescaped(key: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = key.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        if *byte == b'%' {
            let (Some(high), Some(low)) = (digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) else {
                return key.to_owned();
            };
            out.extend(u8::try_from(high * 16 + low));
            at += 3;
        } else {
            out.push(*byte);
            at += 1;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&'static str, &'static str)]) -> Result<Option<Impersonation>, String> {
        Impersonation::read(headers.iter().copied())
    }

    fn acts_as(headers: &[(&'static str, &'static str)]) -> User {
        read(headers).unwrap().unwrap().user()
    }

    #[test]
    fn groups_follow_from_who_one_is() {
        let groups = |headers: &[(&'static str, &'static str)]| acts_as(headers).groups.join(" ");
        let jane = ("impersonate-user", "jane");
        assert_eq!(groups(&[jane]), "system:authenticated");
        let dev = ("impersonate-group", "dev");
        assert_eq!(groups(&[jane, dev]), "dev system:authenticated");
        let nobody = ("impersonate-group", "system:unauthenticated");
        assert_eq!(groups(&[jane, nobody]), "system:unauthenticated");
        let robot = ("impersonate-user", "system:serviceaccount:team:robot");
        let of_robot = "system:serviceaccounts system:serviceaccounts:team system:authenticated";
        assert_eq!(groups(&[robot]), of_robot);
        assert_eq!(groups(&[robot, dev]), "dev system:authenticated");
        let anonymous = ("impersonate-user", "system:anonymous");
        assert_eq!(groups(&[anonymous]), "system:unauthenticated");
        assert_eq!(groups(&[anonymous, dev]), "dev system:unauthenticated");
    }

    #[test]
    fn each_part_has_to_be_allowed() {
        let by = User::named("a", &[]);
        let asked = [
            ("impersonate-user", "system:serviceaccount:team:robot"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-acme%2fscopes", "x"),
            ("impersonate-extra-acme%2fscopes", "y"),
            ("impersonate-extra-odd%", "z"),
        ];
        let asked = read(&asked).unwrap().unwrap();
        let all = asked.attributes(&by);
        let all: Vec<String> = all
            .iter()
            .map(|one| {
                format!(
                    "{}/{}/{} {}/{}",
                    one.group, one.resource, one.subresource, one.namespace, one.name
                )
            })
            .collect();
        assert_eq!(
            all,
            [
                "/serviceaccounts/ team/robot",
                "/groups/ /dev",
                "/groups/ /ops",
                "authentication.k8s.io/userextras/acme/scopes /x",
                "authentication.k8s.io/userextras/acme/scopes /y",
                "authentication.k8s.io/userextras/odd% /z",
                "authentication.k8s.io/uids/ /7",
            ]
        );
        assert_eq!(asked.user().extra["acme/scopes"], ["x", "y"]);
    }

    #[test]
    fn what_is_no_service_account_is_a_user() {
        for name in [
            "system:serviceaccount:team",
            "system:serviceaccount:team:a:b",
            "system:serviceaccount:Team:a",
        ] {
            let asked = Impersonation::read([("impersonate-user", name)].into_iter())
                .unwrap()
                .unwrap();
            assert_eq!(asked.attributes(&User::default())[0].resource, "users", "{name}");
        }
    }

    #[test]
    fn nothing_goes_without_a_user() {
        assert_eq!(read(&[("accept", "*/*"), ("impersonate-user", "")]), Ok(None));
        assert!(read(&[("impersonate-group", "system:masters")]).is_err());
        assert!(read(&[("impersonate-uid", "7"), ("impersonate-user", "")]).is_err());
        assert!(read(&[("impersonate-extra-a", "")]).is_err());
    }
}
