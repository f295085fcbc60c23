//! What GitOps tools make of objects that this operator and its CRD have made: they read fields, also those that nobody set.

use mlua::{IntoLua, Lua, Table};
use serde_json::{Value, json};

use crate::play::{Play, cloneset, settled};
use crate::{QUICK, image, in_place};

/// The health of an object in the version that it is handed in.
fn health(set: &Value) -> String {
    let lua = Lua::new();
    let script = lua.load(include_str!("health.lua")).into_function().unwrap();
    script.call(table(&lua, set)).unwrap()
}

/// An object as Lua has it: what is null is not there.
fn table(lua: &Lua, value: &Value) -> mlua::Value {
    let of = |entries: Vec<(mlua::Value, &Value)>| -> Table {
        let table = lua.create_table().unwrap();
        for (key, value) in entries {
            table.set(key, self::table(lua, value)).unwrap();
        }
        table
    };
    match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(flag) => mlua::Value::Boolean(*flag),
        Value::Number(number) => number.as_i64().map_or(mlua::Value::Nil, mlua::Value::Integer),
        Value::String(text) => text.as_str().into_lua(lua).unwrap(),
        Value::Array(items) => {
            let items = (1..).zip(items).map(|(at, item)| (mlua::Value::Integer(at), item));
            mlua::Value::Table(of(items.collect()))
        }
        Value::Object(map) => {
            let fields = map
                .iter()
                .map(|(key, value)| (key.as_str().into_lua(lua).unwrap(), value));
            mlua::Value::Table(of(fields.collect()))
        }
    }
}

/// The same object in the version that people who came from OpenKruise have in their repositories.
fn alpha(set: &Value) -> Value {
    let mut set = set.clone();
    afloat_api::convert::convert(&mut set, "apps.kruise.io/v1alpha1").unwrap();
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_cd_finds_a_finished_rollout_healthy() {
    let play = Play::start(QUICK).await;
    let created = play.create(cloneset("web", 2, "app:1", in_place(1, 0))).await.unwrap();
    let created = serde_json::to_value(created).unwrap();
    assert_eq!(
        (health(&created).as_str(), health(&alpha(&created)).as_str()),
        ("Progressing", "Progressing")
    );
    let set = play.until("web", "all pods", settled).await;
    assert_eq!(
        (health(&set).as_str(), health(&alpha(&set)).as_str()),
        ("Healthy", "Healthy")
    );

    play.patch("web", image("app:2")).await;
    let set = play.until("web", "the update", settled).await;
    assert_eq!(health(&alpha(&set)), "Healthy");
    // With OpenKruise's own objects of v1beta1, too: Argo CD looks for a field that they do not have.
    assert_eq!(health(&set), "Suspended");

    play.patch(
        "web",
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}}),
    )
    .await;
    play.patch("web", image("app:3")).await;
    let reached = |set: &Value| {
        set["status"]["observedGeneration"] == set["metadata"]["generation"]
            && set["status"]["updatedAvailableReplicas"] == 1
            && set["status"]["availableReplicas"] == 2
    };
    let set = play.until("web", "the partition", reached).await;
    assert_eq!(health(&alpha(&set)), "Suspended", "somebody is to decide");

    play.patch(
        "web",
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0, "paused": true}}}}),
    )
    .await;
    let seen = |set: &Value| set["status"]["observedGeneration"] == set["metadata"]["generation"];
    let set = play.until("web", "the pause", seen).await;
    assert_eq!(health(&alpha(&set)), "Suspended");

    let held = play.hold_kubelets().await;
    play.patch(
        "web",
        json!({"spec": {"updateStrategy": {"rollingUpdate": {"paused": false}}}}),
    )
    .await;
    let waits = |set: &Value| seen(set) && set["status"]["updatedAvailableReplicas"] == 1;
    let set = play.until("web", "its waiting", waits).await;
    assert_eq!(health(&alpha(&set)), "Degraded", "until the last pod is available");
    drop(held);
    let set = play.until("web", "the rest", settled).await;
    assert_eq!(health(&alpha(&set)), "Healthy");
}
