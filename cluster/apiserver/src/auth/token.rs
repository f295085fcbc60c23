//! Service account tokens: signed statements (JWT, RFC 7519; ES256, RFC 7518) of who somebody is, for whom the statement is
//! meant, until when, and which pod it lives and dies with. Nothing is kept but the key.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

/// Who issues tokens, and for whom they are meant unless somebody asks for another audience.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Signs and checks tokens.
pub(crate) struct Signer {
    pair: EcdsaKeyPair,
    /// Name of the key, which tokens carry.
    key_id: String,
    random: SystemRandom,
}

/// What tokens are checked by: a point of P-256, its coordinates in base64 (RFC 7518, 6.2.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey {
    /// Name of the key, which tokens carry.
    pub(crate) id: String,
    pub(crate) x: String,
    pub(crate) y: String,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the key of service account tokens cannot be used: {0}; delete it to have a new one made")]
pub struct KeyError(String);

/// A new key, PEM.
pub(crate) fn new_key() -> Result<String, KeyError> {
    afloat_certificates::key().map_err(|error| KeyError(error.to_string()))
}

impl Signer {
    /// With a key in PEM (PKCS #8, P-256).
    pub(crate) fn new(pem: &str) -> Result<Self, KeyError> {
        let told = |error: &dyn std::fmt::Display| KeyError(error.to_string());
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| told(&error))?;
        let random = SystemRandom::new();
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair =
            EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &random).map_err(|error| told(&error))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        let key_id = URL_SAFE_NO_PAD.encode(digest);
        Ok(Self { pair, key_id, random })
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = json!({"alg": "ES256", "kid": self.key_id, "typ": "JWT"});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.pair.sign(&self.random, signed.as_bytes());
        let signature = signature.map_err(|error| KeyError(error.to_string()))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The other half of the key.
    pub(crate) fn public_key(&self) -> PublicKey {
        // An uncompressed point: a byte that says so, x, y.
        let point = self.pair.public_key().as_ref();
        let coordinates = point.get(1..).unwrap_or_default();
        let (x, y) = coordinates.split_at(coordinates.len() / 2);
        PublicKey {
            id: self.key_id.clone(),
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
        }
    }

    /// The claims of a token that this key has signed.
    pub(crate) fn verify(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?)
            .ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
    }
}

/// An object by name and uid; without the very same object a token is worth nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// What a token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) id: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) namespace: String,
    pub(crate) account: Named,
    pub(crate) pod: Option<Named>,
    pub(crate) node: Option<Named>,
    pub(crate) secret: Option<Named>,
    /// Seconds since 1970.
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
}

impl Statement {
    /// As Kubernetes writes it (KEP-1205, KEP-4193).
    pub(crate) fn claims(&self) -> Value {
        let named = |object: &Named| json!({"name": object.name, "uid": object.uid});
        let mut own = json!({"namespace": self.namespace, "serviceaccount": named(&self.account)});
        for (kind, object) in [("pod", &self.pod), ("node", &self.node), ("secret", &self.secret)] {
            if let Some(object) = object {
                own[kind] = named(object);
            }
        }
        json!({
            "iss": ISSUER, "aud": self.audiences, "jti": self.id,
            "sub": format!("system:serviceaccount:{}:{}", self.namespace, self.account.name),
            "iat": self.issued_at, "nbf": self.issued_at, "exp": self.expires_at, "kubernetes.io": own,
        })
    }

    /// Reads claims that were signed; none if they are of another issuer or not valid at `now`.
    pub(crate) fn read(claims: &Value, now: i64) -> Option<Self> {
        let own = &claims["kubernetes.io"];
        let named = |object: &Value| {
            let text = |field: &str| object[field].as_str().map(str::to_owned);
            Some(Named {
                name: text("name")?,
                uid: text("uid")?,
            })
        };
        let statement = Self {
            id: claims["jti"].as_str().unwrap_or_default().to_owned(),
            audiences: texts(&claims["aud"]),
            namespace: own["namespace"].as_str()?.to_owned(),
            account: named(&own["serviceaccount"])?,
            pod: named(&own["pod"]),
            node: named(&own["node"]),
            secret: named(&own["secret"]),
            issued_at: claims["nbf"].as_i64()?,
            expires_at: claims["exp"].as_i64()?,
        };
        let valid = claims["iss"] == ISSUER && statement.issued_at <= now && now < statement.expires_at;
        valid.then_some(statement)
    }

    /// Those of the audiences that it is meant for.
    pub(crate) fn shared(&self, audiences: &[String]) -> Vec<String> {
        audiences
            .iter()
            .filter(|audience| self.audiences.contains(audience))
            .cloned()
            .collect()
    }
}

/// The audience of the API server itself.
pub(crate) fn own_audiences() -> Vec<String> {
    vec![ISSUER.to_owned()]
}

/// The strings of a list.
pub(crate) fn texts(list: &Value) -> Vec<String> {
    let all = list.as_array().into_iter().flatten();
    all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement() -> Statement {
        let named = |name: &str| Named {
            name: name.into(),
            uid: format!("{name}-uid"),
        };
        Statement {
            id: "1".into(),
            audiences: vec![ISSUER.into(), "vault".into()],
            namespace: "team".into(),
            account: named("robot"),
            pod: Some(named("p")),
            issued_at: 100,
            expires_at: 200,
            ..Statement::default()
        }
    }

    #[test]
    fn what_was_signed_is_read_and_nothing_else() {
        let signer = Signer::new(&new_key().unwrap()).unwrap();
        let token = signer.sign(&statement().claims()).unwrap();
        let claims = signer.verify(&token).unwrap();
        assert_eq!(claims["sub"], "system:serviceaccount:team:robot");
        assert_eq!(Statement::read(&claims, 150), Some(statement()));
        // Another key, another text, no signature, none asked for.
        assert_eq!(Signer::new(&new_key().unwrap()).unwrap().verify(&token), None);
        let (head, rest) = token.split_once('.').unwrap();
        let mut forged = statement();
        forged.account.name = "admin".into();
        let (_, signature) = rest.rsplit_once('.').unwrap();
        let body = URL_SAFE_NO_PAD.encode(forged.claims().to_string());
        assert_eq!(signer.verify(&format!("{head}.{body}.{signature}")), None);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        for bad in [
            format!("{none}.{body}."),
            format!("{head}.{body}."),
            "x".into(),
            "a.b.c".into(),
            String::new(),
        ] {
            assert_eq!(signer.verify(&bad), None, "{bad}");
        }
    }

    #[test]
    fn it_is_good_for_its_time_issuer_and_audience_only() {
        let claims = statement().claims();
        assert!(Statement::read(&claims, 199).is_some());
        assert!(Statement::read(&claims, 99).is_none() && Statement::read(&claims, 200).is_none());
        let mut other = claims;
        other["iss"] = "https://elsewhere".into();
        assert!(Statement::read(&other, 150).is_none());
        assert_eq!(statement().shared(&["vault".into(), "x".into()]), ["vault"]);
    }

    #[test]
    fn a_broken_key_is_refused() {
        assert!(Signer::new("no key").is_err());
    }
}
