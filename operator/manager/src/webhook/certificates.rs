//! Keys and certificates of the webhook: what is to be done about them, and the doing. An authority lives for ten years and signs the
//! certificate of a year that all instances show. A new authority signs nothing before the definitions know it, so that at no moment
//! something is shown that the API server does not trust.

use std::collections::BTreeSet;

use afloat_certificates::{Error, Facts, Pair, Purpose, authority, is_key, sign, split};
use jiff::Timestamp;

/// An authority has a successor when less than this is left of it.
const AUTHORITY_RENEWAL_DAYS: i64 = 2 * 365;
/// A certificate has a successor when less than this is left of it.
const CERTIFICATE_RENEWAL_DAYS: i64 = 122;

/// All of it, as PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Certificates {
    /// Certificates of all authorities that may be in use; the newest is the first.
    pub(super) authorities: String,
    /// The key of the newest.
    pub(super) authority_key: String,
    /// What is shown to the API server.
    pub(super) certificate: String,
    pub(super) key: String,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Keep,
    /// Everything anew: there is nothing, or nothing that can be used.
    Begin,
    /// Another authority beside those that there are.
    NewAuthority,
    /// Another certificate, of the newest authority.
    NewCertificate,
}

/// Decides. `names`: DNS names and addresses under which the API server asks. `trusted`: the newest authority is known wherever
/// the API server looks.
pub(super) fn step(now: Timestamp, stored: Option<&Certificates>, names: &BTreeSet<String>, trusted: bool) -> Step {
    let Some(stored) = stored else { return Step::Begin };
    let authorities = split(&stored.authorities);
    let facts: Option<Vec<Facts>> = authorities.iter().map(|pem| Facts::read(pem)).collect();
    let (Some(facts), Some(certificate)) = (facts, Facts::read(&stored.certificate)) else {
        return Step::Begin;
    };
    let left = |facts: &Facts| facts.days_left(now);
    let Some(newest) = facts.first() else {
        return Step::Begin;
    };
    if !is_key(&stored.authority_key) || !is_key(&stored.key) || left(newest) <= 0 {
        return Step::Begin;
    }
    let signer = facts.iter().position(|authority| certificate.is_signed_by(authority));
    let usable = signer
        .and_then(|at| facts.get(at))
        .is_some_and(|authority| left(authority) > 0);
    if !usable || left(&certificate) < CERTIFICATE_RENEWAL_DAYS || certificate.names != *names {
        return Step::NewCertificate;
    }
    if left(newest) < AUTHORITY_RENEWAL_DAYS {
        return Step::NewAuthority;
    }
    if signer != Some(0) && trusted {
        return Step::NewCertificate;
    }
    Step::Keep
}

impl Certificates {
    /// Carries a step out.
    ///
    /// # Errors
    /// If a name is none, or a key cannot be used.
    pub(super) fn after(self, step: Step, now: Timestamp, names: &BTreeSet<String>) -> Result<Self, Error> {
        match step {
            Step::Keep => Ok(self),
            Step::Begin => Self::default()
                .with_authority(now)
                .and_then(|new| new.with_certificate(now, names)),
            Step::NewAuthority => self.with_authority(now),
            Step::NewCertificate => self.with_certificate(now, names),
        }
    }

    fn with_authority(mut self, now: Timestamp) -> Result<Self, Error> {
        let new = authority("afloat-webhook-ca", now)?;
        let mut authorities = new.certificate;
        for old in split(&self.authorities) {
            if Facts::read(&old).is_some_and(|facts| facts.days_left(now) > 0) {
                authorities.push_str(&old);
            }
        }
        self.authorities = authorities;
        self.authority_key = new.key;
        Ok(self)
    }

    fn with_certificate(mut self, now: Timestamp, names: &BTreeSet<String>) -> Result<Self, Error> {
        let newest = Pair {
            certificate: split(&self.authorities).into_iter().next().unwrap_or_default(),
            key: self.authority_key.clone(),
        };
        let new = sign(&newest, "afloat-webhook", Purpose::Server(names), now)?;
        (self.certificate, self.key) = (new.certificate, new.key);
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn names(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Takes steps until none is left; gives what was done.
    fn rest(now: Timestamp, stored: &mut Option<Certificates>, names: &BTreeSet<String>, trusted: bool) -> Vec<Step> {
        let mut done = Vec::new();
        while done.len() < 5 {
            let next = step(now, stored.as_ref(), names, trusted);
            if next == Step::Keep {
                break;
            }
            *stored = Some(stored.take().unwrap_or_default().after(next, now, names).unwrap());
            done.push(next);
        }
        done
    }

    #[test]
    fn a_life_of_eleven_years() {
        let own = names(&["afloat-webhook.kruise-system.svc", "127.0.0.1", "::1"]);
        let mut stored = None;
        assert_eq!(
            rest(at("2026-01-10T00:00:00Z"), &mut stored, &own, false),
            [Step::Begin]
        );
        assert_eq!(rest(at("2026-08-10T00:00:00Z"), &mut stored, &own, true), []);
        let first = stored.clone().unwrap();
        assert_eq!(
            rest(at("2026-10-10T00:00:00Z"), &mut stored, &own, true),
            [Step::NewCertificate]
        );
        let second = stored.clone().unwrap();
        assert_eq!(
            (&first.authorities, first.certificate == second.certificate),
            (&second.authorities, false)
        );

        // The successor of the authority is made known before it signs, and the old one stays known.
        assert_eq!(
            rest(at("2034-02-01T00:00:00Z"), &mut stored, &own, false),
            [Step::NewCertificate, Step::NewAuthority]
        );
        assert_eq!(split(&stored.as_ref().unwrap().authorities).len(), 2);
        assert_eq!(
            rest(at("2034-02-02T00:00:00Z"), &mut stored, &own, true),
            [Step::NewCertificate]
        );
        assert_eq!(rest(at("2034-02-02T00:00:00Z"), &mut stored, &own, true), []);
        // When the next comes, what has ended is forgotten.
        let ended = rest(at("2042-06-01T00:00:00Z"), &mut stored, &own, true);
        assert_eq!(ended, [Step::NewCertificate, Step::NewAuthority, Step::NewCertificate]);
        assert_eq!(split(&stored.unwrap().authorities).len(), 2);
    }

    #[test]
    fn other_names_need_another_certificate() {
        let now = at("2026-01-10T00:00:00Z");
        let mut stored = None;
        rest(now, &mut stored, &names(&["a.b.svc"]), false);
        let before = stored.clone().unwrap();
        assert_eq!(
            rest(now, &mut stored, &names(&["c.d.svc"]), true),
            [Step::NewCertificate]
        );
        assert_eq!(before.authorities, stored.unwrap().authorities);
    }

    #[test]
    fn what_cannot_be_used_is_made_anew() {
        let now = at("2026-01-10T00:00:00Z");
        let own = names(&["a.b.svc"]);
        let good = Certificates::default().after(Step::Begin, now, &own).unwrap();
        let spoilt: [fn(&mut Certificates); 4] = [
            |all| all.authorities = "nonsense".into(),
            |all| all.authority_key.clear(),
            |all| all.certificate.truncate(100),
            |all| all.key.clear(),
        ];
        for spoil in spoilt {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert_eq!(step(now, Some(&bad), &own, true), Step::Begin);
        }
        assert_eq!(step(at("2036-02-01T00:00:00Z"), Some(&good), &own, true), Step::Begin);
    }
}
