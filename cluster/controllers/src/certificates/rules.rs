//! What the built-in signers sign (Kubernetes' `pkg/apis/certificates/helpers.go` and `pkg/controller/certificates/signer`).

use std::collections::BTreeSet;

use afloat_certificates::Request;

/// A signer of ours, and what it asks of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    /// For anybody who wants to be let in by the API server.
    Client,
    /// For nodes who want that.
    NodeClient,
    /// For what kubelets show.
    NodeServing,
}

impl Signer {
    /// By name. None: somebody else's.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "kubernetes.io/kube-apiserver-client" => Self::Client,
            "kubernetes.io/kube-apiserver-client-kubelet" => Self::NodeClient,
            "kubernetes.io/kubelet-serving" => Self::NodeServing,
            _ => return None,
        })
    }

    /// Whether it signs a request.
    ///
    /// # Errors
    /// Why not, in Kubernetes' words.
    pub(super) fn check(self, request: &Request, usages: &[String]) -> Result<(), String> {
        match self {
            Self::Client => client_usages(usages),
            Self::NodeClient => {
                organization(request)?;
                let names = &request.names;
                for (there, what) in [
                    (!names.dns.is_empty(), "DNS"),
                    (!names.emails.is_empty(), "Email"),
                    (!names.addresses.is_empty(), "IP"),
                    (!names.uris.is_empty(), "URI"),
                ] {
                    without(there, what)?;
                }
                common_name(request)?;
                node_usages(usages, "client auth")
            }
            Self::NodeServing => {
                organization(request)?;
                let names = &request.names;
                if names.dns.is_empty() && names.addresses.is_empty() {
                    return Err("DNS or IP subjectAltName is required".to_owned());
                }
                without(!names.emails.is_empty(), "Email")?;
                without(!names.uris.is_empty(), "URI")?;
                // In this order upstream, too.
                node_usages(usages, "server auth")?;
                common_name(request)
            }
        }
    }
}

fn client_usages(usages: &[String]) -> Result<(), String> {
    let known = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if usages.iter().any(|usage| usage == "client auth") {
        return Ok(());
    }
    Err("missing required usage for client certificate: client auth".to_owned())
}

fn organization(request: &Request) -> Result<(), String> {
    let right = request.organizations == ["system:nodes"];
    right
        .then_some(())
        .ok_or_else(|| "subject organization is not system:nodes".to_owned())
}

fn common_name(request: &Request) -> Result<(), String> {
    let right = request.common_name.starts_with("system:node:");
    right
        .then_some(())
        .ok_or_else(|| "subject common name does not begin with system:node:".to_owned())
}

fn without(there: bool, what: &str) -> Result<(), String> {
    let why = || format!("{what} subjectAltNames are not allowed");
    (!there).then_some(()).ok_or_else(why)
}

/// Those that are needed for one purpose; keys that are not of RSA encipher none.
fn node_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let all: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let wanted = BTreeSet::from(["digital signature", "key encipherment", purpose]);
    let fewer = BTreeSet::from(["digital signature", purpose]);
    if all == wanted || all == fewer {
        return Ok(());
    }
    let list: Vec<&str> = wanted.into_iter().collect();
    Err(format!("usages did not match [{}]", list.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use afloat_certificates::{Names, Request};

    /// As openssl makes it for `/CN=system:node:n1/O=system:nodes`.
    const NODE: &str = include_str!("node.csr");

    use Signer::{Client, NodeClient, NodeServing};

    const SIGNATURE: &str = "digital signature";
    const CIPHER: &str = "key encipherment";
    const CLIENT: &str = "client auth";
    const SERVER: &str = "server auth";

    fn node() -> Request {
        Request::read(NODE.as_bytes()).unwrap()
    }

    /// One that asks to be of the masters, too.
    fn stranger() -> Request {
        let mut request = node();
        request.organizations.push("system:masters".into());
        request
    }

    fn person() -> Request {
        let mut request = node();
        request.common_name = "anna".into();
        request
    }

    /// A node with its host name, and addresses of mail.
    fn named(emails: &[&str]) -> Request {
        let mut request = node();
        request.names = Names {
            dns: vec!["n1".into()],
            emails: emails.iter().map(|mail| (*mail).into()).collect(),
            ..Names::default()
        };
        request
    }

    /// Each of these is refused for this reason, or not.
    fn told(signer: Signer, cases: &[(Request, &[&str], Option<&str>)]) {
        for (request, usages, refused) in cases {
            let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
            let told = signer.check(request, &usages).err();
            assert_eq!(told.as_deref(), *refused, "{signer:?} {usages:?}");
        }
    }

    #[test]
    fn clients_ask_for_what_a_client_does() {
        let missing = Some("missing required usage for client certificate: client auth");
        let invalid = Some("invalid usage for client certificate: server auth");
        let cases: [(Request, &[&str], Option<&str>); 4] = [
            (person(), &[CLIENT], None),
            (stranger(), &[SIGNATURE, CIPHER, CLIENT], None),
            (person(), &[SIGNATURE], missing),
            (person(), &[CLIENT, SERVER], invalid),
        ];
        told(Client, &cases);
        assert_eq!(Signer::named("example.com/mine"), None);
    }

    #[test]
    fn nodes_are_named_as_nodes() {
        let usages = Some("usages did not match [client auth digital signature key encipherment]");
        let organization = Some("subject organization is not system:nodes");
        let name = Some("subject common name does not begin with system:node:");
        let hosts = Some("DNS subjectAltNames are not allowed");
        let cases: [(Request, &[&str], Option<&str>); 6] = [
            (node(), &[SIGNATURE, CLIENT], None),
            (node(), &[CLIENT, CIPHER, SIGNATURE], None),
            (node(), &[CLIENT], usages),
            (stranger(), &[SIGNATURE, CLIENT], organization),
            (person(), &[SIGNATURE, CLIENT], name),
            (named(&[]), &[SIGNATURE, CLIENT], hosts),
        ];
        told(NodeClient, &cases);
    }

    #[test]
    fn serving_nodes_say_where() {
        let hosts = Some("DNS or IP subjectAltName is required");
        let mail = Some("Email subjectAltNames are not allowed");
        let organization = Some("subject organization is not system:nodes");
        let usages = Some("usages did not match [digital signature key encipherment server auth]");
        let cases: [(Request, &[&str], Option<&str>); 6] = [
            (named(&[]), &[SIGNATURE, SERVER], None),
            (named(&[]), &[SIGNATURE, CIPHER, SERVER], None),
            (node(), &[SIGNATURE, SERVER], hosts),
            (named(&["a@b"]), &[SIGNATURE, SERVER], mail),
            (stranger(), &[SIGNATURE, SERVER], organization),
            (named(&[]), &[SIGNATURE, CLIENT], usages),
        ];
        told(NodeServing, &cases);
    }
}
