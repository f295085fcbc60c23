//! Whose processes run.

use afloat_runtime::{Runtime as _, RuntimeError};
use anyhow::{Context as _, ensure};

use crate::inner::{Inside, wait_for_text};

impl Inside {
    /// Whoever is mapped can be had; whoever is not is refused with what to do.
    pub(crate) async fn users(&self, rootless: bool) -> anyhow::Result<()> {
        let script = "while read -r k v; do case $k in Uid:|Groups:|CapEff:) echo $k $v;; esac; done < /proc/self/status; exit 9";
        let mut spec = self.spec("user", 0, script);
        (spec.uid, spec.gid) = (4_000_000_000, 4_000_000_000);
        if rootless {
            let error = self
                .runtime
                .create_container(&spec)
                .await
                .err()
                .context("nobody has this user")?;
            ensure!(error.to_string().contains("newuidmap"), "{error}");
        }
        (spec.uid, spec.gid, spec.additional_gids) = (1000, 1000, vec![2000]);
        spec.drop_capabilities = vec!["ALL".into()];
        let id = match self.runtime.create_container(&spec).await {
            Err(RuntimeError::Invalid(message)) if rootless && message.contains("newuidmap") => return Ok(()),
            other => other?,
        };
        self.runtime.start_container(&id).await?;
        ensure!(self.exit_of(&id).await? == (9, 0));
        let log = self.dir.join("logs/user/0.log");
        for text in [
            "F Uid: 1000 1000 1000 1000",
            "F Groups: 2000",
            "F CapEff: 0000000000000000",
        ] {
            wait_for_text(&log, text).await?;
        }
        Ok(self.runtime.remove_container(&id).await?)
    }
}
