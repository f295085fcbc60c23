use super::*;

fn endpoints(subsets: Value) -> Endpoints {
    serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "n", "uid": "e-uid", "labels": {"tier": "data"},
            "annotations": {"team": "x", LAST_APPLIED: "{}", TRIGGER_TIME: "2026-01-01T00:00:00Z"}},
        "subsets": subsets,
    }))
    .unwrap()
}

fn service(selector: Value) -> Service {
    serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "n"}, "spec": {"selector": selector}}))
        .unwrap()
}

fn decide(endpoints: &Endpoints, service: Option<&Service>, slices: &[Arc<EndpointSlice>]) -> Plan {
    plan(&Seen {
        endpoints: Some(endpoints),
        service,
        slices,
    })
}

/// The slices as the API server stores them: what was made gets a name.
fn stored(plan: &Plan) -> Vec<Arc<EndpointSlice>> {
    let slices = plan.actions.iter().enumerate().map(|(at, action)| {
        let (Action::Create(slice) | Action::Replace(slice)) = action else {
            panic!("nothing is deleted")
        };
        let mut slice: EndpointSlice = serde_json::from_value(slice.clone()).unwrap();
        slice.metadata.name.get_or_insert_with(|| format!("db-{at}"));
        Arc::new(slice)
    });
    slices.collect()
}

#[test]
fn a_slice_for_each_subset_and_family_and_then_nothing() {
    let by_hand = service(Value::Null);
    let endpoints = endpoints(json!([
        {"addresses": [{"ip": "10.1.2.3"}, {"ip": "fd00::1", "hostname": "six"}],
            "notReadyAddresses": [{"ip": "10.1.2.4"}], "ports": [{"port": 5432}]},
    ]));
    let first = decide(&endpoints, Some(&by_hand), &[]);
    let slices = stored(&first);
    let of = |kind: &str| slices.iter().find(|slice| slice.address_type == kind).unwrap();
    assert_eq!(
        json!(of("IPv4").endpoints),
        json!([
            {"addresses": ["10.1.2.3"], "conditions": {"ready": true}},
            {"addresses": ["10.1.2.4"], "conditions": {"ready": false}},
        ])
    );
    assert_eq!(json!(of("IPv6").endpoints.as_ref().unwrap()[0].hostname), "six");
    assert_eq!(
        json!(of("IPv4").ports),
        json!([{"name": "", "port": 5432, "protocol": "TCP"}])
    );
    let meta = json!(of("IPv4").metadata);
    assert_eq!(
        meta["labels"],
        json!({"tier": "data", SERVICE_NAME: "db", MANAGED_BY: MIRRORING})
    );
    assert_eq!(meta["annotations"], json!({"team": "x"}));
    assert_eq!(
        (&meta["generateName"], &meta["ownerReferences"][0]["uid"]),
        (&json!("db-"), &json!("e-uid"))
    );
    assert_eq!(decide(&endpoints, Some(&by_hand), &slices), Plan::default());
}

#[test]
fn slices_are_used_again_and_go_when_nothing_is_to_be_mirrored() {
    let by_hand = service(Value::Null);
    let address = |port: u16| json!([{"addresses": [{"ip": "10.1.2.3"}], "ports": [{"port": port}]}]);
    let slices = stored(&decide(&endpoints(address(1)), Some(&by_hand), &[]));
    let next = decide(&endpoints(address(2)), Some(&by_hand), &slices);
    assert_eq!(next.actions.len(), 1);
    assert_eq!(stored(&next)[0].metadata.name, slices[0].metadata.name);

    let gone = Plan {
        actions: vec![Action::Delete(Box::new(slices[0].metadata.clone()))],
        ..Plan::default()
    };
    let mut skipped = endpoints(address(1));
    skipped.metadata.labels = Some([(SKIP_MIRROR.to_owned(), "true".to_owned())].into());
    let mut lock = endpoints(address(1));
    lock.metadata.annotations = Some([(LEADER.to_owned(), "{}".to_owned())].into());
    let chosen = service(json!({"app": "db"}));
    for (what, endpoints, service) in [
        ("no Service", &endpoints(address(1)), None),
        ("a selector", &endpoints(address(1)), Some(&chosen)),
        ("a label", &skipped, Some(&by_hand)),
        ("a lock", &lock, Some(&by_hand)),
        ("no addresses", &endpoints(json!([])), Some(&by_hand)),
    ] {
        assert_eq!(decide(endpoints, service, &slices), gone, "{what}");
    }
}

#[test]
fn what_is_left_out_is_told() {
    let mut many: Vec<Value> = (0..1010)
        .map(|at| json!({"ip": format!("10.0.{}.{}", at / 250, at % 250)}))
        .collect();
    many.push(json!({"ip": "a.example"}));
    let plan = decide(
        &endpoints(json!([{"addresses": many}])),
        Some(&service(Value::Null)),
        &[],
    );
    assert_eq!(stored(&plan)[0].endpoints.as_ref().unwrap().len(), ADDRESSES_MAX);
    let told: Vec<&str> = plan.left_out.iter().map(|(_, message)| message.as_str()).collect();
    assert_eq!(
        told,
        ["A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 11 addresses were skipped"]
    );
    let plan = decide(
        &endpoints(json!([{"addresses": [{"ip": "a.example"}]}])),
        Some(&service(Value::Null)),
        &[],
    );
    assert_eq!(plan.left_out[0].0, "InvalidIPAddress");
}
