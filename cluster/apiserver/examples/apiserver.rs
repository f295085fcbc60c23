//! A bare API server, to try kubectl on: no controllers, no nodes.
//!
//! `cargo run -p afloat-apiserver --example apiserver -- --port 6443 --data-dir DIR`, then
//! `kubectl --kubeconfig DIR/kubeconfig get namespaces`.

use std::error::Error;
use std::path::PathBuf;

use afloat_apiserver::{ApiServer, Options, Pki};
use afloat_store::Store;
use tokio_util::sync::CancellationToken;

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|a| a != name);
    arguments.nth(1)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port: u16 = argument("--port").unwrap_or_else(|| "6443".into()).parse()?;
    let dir = PathBuf::from(argument("--data-dir").ok_or("--data-dir DIR is needed")?);
    std::fs::create_dir_all(&dir)?;
    let store = Store::open(&dir.join("store.redb"))?;
    let server = ApiServer::new(store.clone(), Options::default()).await?;
    let pki = Pki::load_or_create(&dir.join("pki"), &["localhost".into()], &["127.0.0.1".parse()?])?;
    std::fs::write(
        dir.join("kubeconfig"),
        pki.kubeconfig(&format!("https://127.0.0.1:{port}")),
    )?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    server.serve(listener, &pki, shutdown).await?;
    store.close().await;
    Ok(())
}
