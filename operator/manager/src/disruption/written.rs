//! The webhook's answer to whoever writes a budget: two of a namespace are not about the same pods, and annotations can be read. What else a
//! budget may be, the schema says; among that, that selector and target stay as they are.

use afloat_api::PodUnavailableBudget;
use afloat_disruption::written::{annotations, conflict};
use kube::{Client, Resource as _};
use serde::Deserialize;
use serde_json::{Value, json};

use super::scale::ask;
use crate::webhook::verdict::Verdict;

/// All of a namespace.
#[derive(Deserialize)]
struct Budgets {
    items: Vec<PodUnavailableBudget>,
}

/// Judges the `request` of an AdmissionReview about a budget.
pub(crate) async fn review(client: Client, mut request: Value) -> Verdict {
    let object = request["object"].take();
    // The schema has a sentence for what is none.
    let Ok(budget) = serde_json::from_value::<PodUnavailableBudget>(json!({
        "metadata": object["metadata"], "spec": object["spec"],
    })) else {
        return Verdict::Allowed;
    };
    let refused = |message| Verdict::Refused { code: 400, message };
    if let Some(message) = annotations(&budget) {
        return refused(message);
    }
    // Selector and target do not change, so there is no new conflict in a change: whoever has two can still mend them.
    if request["operation"] != "CREATE" {
        return Verdict::Allowed;
    }
    let path = PodUnavailableBudget::url_path(&(), request["namespace"].as_str());
    let all = match ask(&client, &path).await {
        Ok(list) => serde_json::from_value(list.unwrap_or_else(|| json!({"items": []}))),
        Err(why) => return Verdict::Unable(why),
    };
    match all {
        Ok(Budgets { items }) => conflict(&budget, &items).map_or(Verdict::Allowed, refused),
        Err(error) => Verdict::Unable(error.to_string()),
    }
}
