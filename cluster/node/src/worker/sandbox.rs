//! What a worker does about the pod as a whole: its network and volumes, and their end.

use std::net::IpAddr;
use std::time::Duration;

use afloat_runtime::SandboxSpec;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Preconditions};

use super::{RETRY, Worker, blocking, host_ports};
use crate::clock::later;
use crate::options::API_LIMIT;
use crate::pod::container::security;
use crate::pod::spec;
use crate::pod::state::Sandbox;
use crate::volume;

/// Reason and message of an event.
type Failure = (&'static str, String);

/// Before what this node cannot do is said again.
const REMIND: Duration = Duration::from_secs(300);

impl Worker {
    pub(super) async fn prepare_sandbox(&mut self) {
        let outcome = self.try_sandbox().await;
        let now = self.context.clock.now();
        if outcome.is_ok()
            && let Some(message) = security::ignored(&self.pod)
        {
            self.event(None, true, "SecurityContextIgnored", &message, now);
        }
        self.state.sandbox = match outcome {
            Ok(ip) => Sandbox::Ready(ip),
            Err((reason, message)) => {
                self.event(None, true, reason, &message, now);
                let lasting = security::unsupported(&self.pod).is_some();
                Sandbox::Failed {
                    message,
                    retry_at: later(now, if lasting { REMIND } else { RETRY }),
                }
            }
        };
    }

    async fn try_sandbox(&mut self) -> Result<IpAddr, Failure> {
        self.prepare_volumes()
            .await
            .map_err(|message| ("FailedMount", message))?;
        let wish = self
            .pod
            .status
            .as_ref()
            .and_then(|status| status.pod_ip.as_ref())
            .and_then(|ip| ip.parse().ok());
        let failed = |error: String| {
            (
                "FailedCreatePodSandBox",
                format!("Failed to create pod sandbox: {error}"),
            )
        };
        if let Some(what) = security::unsupported(&self.pod) {
            return Err(failed(what));
        }
        let spec = SandboxSpec {
            pod_uid: spec::uid(&self.pod).to_owned(),
            pod: spec::full_name(&self.pod),
            hostname: volume::host_name(&self.pod, &self.names()).map_err(failed)?,
            ip: wish,
            host_network: spec::host_network(&self.pod),
            host_ipc: spec::host_ipc(&self.pod),
            processes: spec::processes(&self.pod),
        };
        let made = self
            .context
            .limited(self.context.runtime.create_sandbox(&spec))
            .await
            .map_err(|error| failed(error.to_string()))?;
        let ip = if spec.host_network {
            self.context.options.node_ip
        } else {
            made.ip
        };
        let (pod, dirs, names) = (self.pod.clone(), self.dirs.clone(), self.names());
        let etc = move || volume::write_etc(&pod, &dirs, ip, &names).map_err(|error| error.to_string());
        blocking(etc).await.map_err(failed)?;
        self.host_ports = host_ports::open(&self.pod, self.context.options.node_ip, ip)
            .await
            .map_err(failed)?;
        Ok(ip)
    }

    pub(super) async fn clean_up(&mut self) {
        self.host_ports = Default::default();
        let removed = self
            .context
            .limited(self.context.runtime.remove_sandbox(spec::uid(&self.pod)))
            .await;
        let removed = match removed {
            Ok(()) => {
                self.context
                    .limited(self.context.runtime.unmount_below(&self.dirs.root))
                    .await
            }
            failed => failed,
        };
        let files = match removed {
            Ok(()) => {
                let dirs = self.dirs.clone();
                // Logs stay as long as the object does.
                blocking(move || volume::remove(&dirs, false).map_err(|error| error.to_string())).await
            }
            Err(error) => Err(error.to_string()),
        };
        match files {
            Ok(()) => {
                self.state.cleaned = true;
                self.state.sandbox = Sandbox::Absent;
            }
            Err(error) => {
                let now = self.context.clock.now();
                self.event(None, true, "FailedKillPod", &format!("error killing pod: {error}"), now);
                self.state.retry_at = Some(later(now, RETRY));
            }
        }
    }

    pub(super) async fn delete_object(&mut self) {
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), spec::namespace(&self.pod));
        let own = Preconditions {
            uid: self.pod.metadata.uid.clone(),
            resource_version: None,
        };
        let params = DeleteParams::default().grace_period(0).preconditions(own);
        let now = self.context.clock.now();
        let error = match tokio::time::timeout(API_LIMIT, api.delete(spec::name(&self.pod), &params)).await {
            Ok(Ok(_)) => {
                self.state.deleted = true;
                return;
            }
            // Gone, or another pod has the name.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {
                return self.state.observe_gone(now);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(
            pod = spec::full_name(&self.pod),
            terminal = self.is_terminal(),
            error,
            "object not deleted"
        );
        self.state.retry_at = Some(later(now, RETRY));
    }
}
