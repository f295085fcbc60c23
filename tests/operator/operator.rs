//! `afloat operator` as a process of its own, with the rights of `rbac.yaml` and no others.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::ports::free_port;
use crate::process::{PATIENCE, Process};

/// The program under test.
pub(crate) const AFLOAT: &str = env!("CARGO_BIN_EXE_afloat");

/// A running operator.
pub(crate) struct Operator {
    process: Process,
    metrics: String,
}

impl Operator {
    /// Starts one with these feature gates; its log goes to `log`, after what is there.
    pub(crate) fn start(kubeconfig: &Path, log: PathBuf, gates: &str) -> Self {
        let metrics = format!("127.0.0.1:{}", free_port());
        let port = free_port().to_string();
        let url = format!("https://127.0.0.1:{port}/convert");
        let webhook = ["--webhook-port", &port, "--webhook-url", &url];
        let arguments = [
            &["operator", "--feature-gates", gates, "--metrics-address", &metrics],
            &webhook[..],
            &["--kubeconfig"],
        ]
        .concat();
        let arguments = arguments.into_iter().map(Into::into);
        let arguments = arguments.chain([kubeconfig.into()]);
        let process = Process::start(Path::new(AFLOAT), arguments.collect::<Vec<std::ffi::OsString>>(), log);
        Self { process, metrics }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Asks it to leave, with SIGTERM or otherwise.
    pub(crate) fn stop(mut self, signal: &str) -> ExitStatus {
        self.process.stop(signal)
    }

    /// A figure; the sum of all its labels. 0 if it was never counted.
    pub(crate) async fn figure(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.expect("the operator serves its figures");
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        let own = lines.filter(|rest| rest.starts_with([' ', '{']));
        own.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until it holds the lease and has seen the cluster.
    pub(crate) async fn wait_leading(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let text = self.get("/metrics").await.unwrap_or_default();
            if text.lines().any(|line| line == "afloat_operator_leading 1") {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "does not lead: {}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn get(&self, path: &str) -> std::io::Result<String> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(&self.metrics).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }
}
