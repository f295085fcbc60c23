//! `/stats/summary`: looks are taken when somebody asks.

use afloat_runtime::RuntimeError;
use serde_json::Value;

use crate::context::Context;
use crate::usage::{FIRST_WINDOW, Look, Need, finish, need, summary};

/// What everything on the node uses now.
pub(super) async fn stats_summary(context: &Context) -> Result<Value, RuntimeError> {
    // Others who ask meanwhile wait for the same answer.
    let mut looks = context.looks.lock().await;
    let last = looks.as_ref().map(|(_, last)| last.at);
    let before = match need(last, context.clock.now()) {
        Need::Nothing => None,
        Need::One => looks.take().map(|(_, last)| last),
        Need::Two => {
            let first = look(context).await?;
            tokio::time::sleep(FIRST_WINDOW).await;
            Some(first)
        }
    };
    if let Some(before) = before {
        *looks = Some((before, look(context).await?));
    }
    let Some((before, now)) = looks.clone() else {
        return Err(RuntimeError::Failed("nothing is known yet".to_owned()));
    };
    drop(looks);
    let pods = context.pods();
    let containers = context.limited(context.runtime.containers()).await?;
    let memory = context.options.capacity.memory_bytes;
    let summary = summary(&before, &now, pods.iter().map(AsRef::as_ref), &containers);
    Ok(finish(summary, &context.options.node_name, memory))
}

async fn look(context: &Context) -> Result<Look, RuntimeError> {
    let used = context.limited(context.runtime.usage()).await?;
    let at = context.clock.now();
    Ok(Look { at, used })
}
