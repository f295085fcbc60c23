//! `afloat bench server`: the embedded API server alone, as a process of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use afloat_apiserver::pki::Pki;
use afloat_apiserver::{ApiServer, Options};
use afloat_store::Store;
use anyhow::Context as _;

use crate::cluster::write_private;
use crate::inner::Stop;
use crate::output;

/// Serves until told to stop. Prints the path of its kubeconfig once it does.
pub(super) fn main(dir: &Path) -> anyhow::Result<i32> {
    crate::inner::start_logging("warn");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        let path = dir.join("store.redb");
        let store = tokio::task::spawn_blocking(move || Store::open(&path))
            .await?
            .context("cannot open the store")?;
        let api = ApiServer::new(store.clone(), Options::default()).await?;
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let pki = Pki::load_or_create(&dir.join("pki"), &["localhost".to_owned()], &[address])
            .context("cannot make certificates")?;
        let listener = tokio::net::TcpListener::bind((address, 0)).await?;
        let kubeconfig = dir.join("kubeconfig");
        let url = format!("https://{}", listener.local_addr()?);
        write_private(&kubeconfig, &pki.kubeconfig(&url))
            .with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        output::print(&format!("{}\n", kubeconfig.display()))?;
        let token = stop.token();
        tokio::select! {
            result = api.serve(listener, &pki, token.clone()) => result?,
            _ = stop.requested() => token.cancel(),
        }
        store.close().await;
        Ok(0)
    })
}
