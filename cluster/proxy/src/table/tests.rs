use proptest::prelude::*;

use super::*;

const NODE: &str = "node-1";

fn key(name: &str) -> Key {
    Key::new("default", name)
}

fn id(slice: &str) -> Key {
    Key::new("default", slice)
}

fn service(ports: &[(&str, u16, Option<u16>)]) -> Service {
    let port = |(name, port, node_port): &(&str, u16, Option<u16>)| ServicePort {
        name: (*name).into(),
        protocol: Protocol::Tcp,
        port: *port,
        node_port: *node_port,
    };
    Service {
        cluster_ips: vec![[10, 96, 0, 10].into()],
        ports: ports.iter().map(port).collect(),
        ..Service::default()
    }
}

/// `state`: r ready, u unready, t terminating and serving, x terminating and not serving.
fn endpoint(last: u8, state: char, node: &str) -> SliceEndpoint {
    SliceEndpoint {
        address: [10, 244, 0, last].into(),
        ready: state == 'r',
        serving: matches!(state, 'r' | 't'),
        terminating: matches!(state, 't' | 'x'),
        node: Some(node.into()),
        pod: None,
    }
}

fn slice(version: &str, ports: &[(&str, u16)], endpoints: Vec<SliceEndpoint>) -> Slice {
    let ports = ports
        .iter()
        .map(|(name, number)| ((*name).into(), Protocol::Tcp, *number))
        .collect();
    Slice {
        version: version.into(),
        ports,
        endpoints,
    }
}

fn cluster_ip(port: u16) -> Frontend {
    Frontend::ClusterIp(SocketAddrV4::new([10, 96, 0, 10].into(), port), Protocol::Tcp)
}

/// Routes of one Service with these slices, as `frontend → endpoints`.
fn table(service: &Service, slices: Vec<Slice>) -> BTreeMap<Frontend, Vec<String>> {
    let slices = slices
        .into_iter()
        .enumerate()
        .map(|(i, slice)| (format!("s{i}"), slice))
        .collect();
    let routes = routes(NODE, &key("web"), service, Some(&slices));
    routes
        .into_iter()
        .map(|(f, route)| (f, route.endpoints.iter().map(ToString::to_string).collect()))
        .collect()
}

fn choice(states: &str) -> Vec<String> {
    let endpoints = states
        .chars()
        .enumerate()
        .map(|(i, state)| endpoint(i as u8 + 1, state, NODE))
        .collect();
    table(&service(&[("", 80, None)]), vec![slice("1", &[("", 8080)], endpoints)])
        .remove(&cluster_ip(80))
        .unwrap()
}

#[test]
fn ready_endpoints_are_used_and_serving_terminating_ones_only_where_none_is_ready() {
    assert_eq!(choice("rutx"), ["10.244.0.1:8080"]);
    assert_eq!(choice("utx"), ["10.244.0.2:8080"]);
    assert_eq!(choice("ux"), Vec::<String>::new());
    assert_eq!(choice(""), Vec::<String>::new());
    assert_eq!(choice("rtr"), ["10.244.0.1:8080", "10.244.0.3:8080"]);
}

#[test]
fn each_slice_resolves_the_named_port_itself() {
    let web = service(&[("http", 80, None), ("admin", 81, None)]);
    let old = slice("1", &[("http", 8080), ("admin", 9000)], vec![endpoint(1, 'r', NODE)]);
    let new = slice("2", &[("http", 8081)], vec![endpoint(2, 'r', NODE)]);
    let table = table(&web, vec![old, new]);
    assert_eq!(table[&cluster_ip(80)], ["10.244.0.1:8080", "10.244.0.2:8081"]);
    assert_eq!(table[&cluster_ip(81)], ["10.244.0.1:9000"]);
}

#[test]
fn a_local_policy_takes_endpoints_of_the_own_node_only() {
    let mut web = service(&[("", 80, Some(30080))]);
    let slices = || {
        vec![slice(
            "1",
            &[("", 8080)],
            vec![endpoint(1, 'r', NODE), endpoint(2, 'r', "node-2")],
        )]
    };
    web.internal_local = true;
    let internal = table(&web, slices());
    assert_eq!(internal[&cluster_ip(80)], ["10.244.0.1:8080"]);
    assert_eq!(internal[&Frontend::NodePort(30080, Protocol::Tcp)].len(), 2);
    web = Service {
        internal_local: false,
        external_local: true,
        ..web
    };
    let external = table(&web, slices());
    assert_eq!(external[&cluster_ip(80)].len(), 2);
    assert_eq!(external[&Frontend::NodePort(30080, Protocol::Tcp)], ["10.244.0.1:8080"]);
    // The fallback to terminating endpoints stays within the node, too.
    let far = vec![slice(
        "1",
        &[("", 8080)],
        vec![endpoint(1, 't', NODE), endpoint(2, 'r', "node-2")],
    )];
    assert_eq!(
        table(&web, far)[&Frontend::NodePort(30080, Protocol::Tcp)],
        ["10.244.0.1:8080"]
    );
}

#[test]
fn headless_services_have_no_routes() {
    let headless = Service {
        cluster_ips: Vec::new(),
        ..service(&[("", 80, None)])
    };
    assert!(table(&headless, vec![slice("1", &[("", 80)], vec![endpoint(1, 'r', NODE)])]).is_empty());
}

#[test]
fn an_endpoint_in_two_slices_counts_once() {
    let twice = |a, b| {
        vec![
            slice("1", &[("", 80)], vec![endpoint(1, a, NODE)]),
            slice("2", &[("", 80)], vec![endpoint(1, b, NODE)]),
        ]
    };
    for (a, b) in [('r', 'u'), ('u', 'r'), ('r', 'r'), ('x', 'r')] {
        assert_eq!(
            table(&service(&[("", 80, None)]), twice(a, b))[&cluster_ip(80)],
            ["10.244.0.1:80"]
        );
    }
}

/// One line per step: what opens (+), changes (~) and closes (-).
fn step(model: &mut Model, change: Change) -> String {
    let touched = model.see(change);
    let diff = model.update(&touched);
    let name = |f: &Frontend| match f {
        Frontend::ClusterIp(address, _) => address.port().to_string(),
        Frontend::NodePort(port, _) => format!("node {port}"),
    };
    let open = diff
        .open
        .iter()
        .map(|(f, r)| format!("+{} {}", name(f), r.endpoints.len()));
    let change = diff
        .change
        .iter()
        .map(|(f, r)| format!("~{} {}", name(f), r.endpoints.len()));
    let close = diff.close.iter().map(|f| format!("-{}", name(f)));
    open.chain(change).chain(close).collect::<Vec<_>>().join(", ")
}

#[test]
fn listeners_follow_endpoints() {
    let mut model = Model::new(NODE);
    let web = || Change::Service(key("web"), Some(service(&[("", 80, Some(30080))])));
    let ready = |version: &str, states: &str| {
        let endpoints = states
            .chars()
            .enumerate()
            .map(|(i, s)| endpoint(i as u8, s, NODE))
            .collect();
        Change::Slice(
            id("web-1"),
            Some((key("web"), slice(version, &[("", 8080)], endpoints))),
        )
    };
    assert_eq!(step(&mut model, web()), "", "nothing to send to: closed");
    assert_eq!(step(&mut model, ready("1", "r")), "+80 1, +node 30080 1");
    assert_eq!(step(&mut model, ready("2", "r")), "", "a new version of the same");
    assert_eq!(
        model.versions(&key("web")),
        BTreeMap::from([("web-1".to_owned(), "2".to_owned())])
    );
    assert_eq!(step(&mut model, ready("3", "rr")), "~80 2, ~node 30080 2");
    let moved = Change::Service(key("web"), Some(service(&[("", 81, Some(30080))])));
    assert_eq!(step(&mut model, moved), "+81 2, -80");
    assert_eq!(step(&mut model, ready("4", "uu")), "-81, -node 30080");
    assert_eq!(step(&mut model, ready("5", "tu")), "+81 1, +node 30080 1");
    assert_eq!(step(&mut model, Change::Slice(id("web-1"), None)), "-81, -node 30080");
    assert_eq!(step(&mut model, ready("6", "r")), "+81 1, +node 30080 1");
    assert_eq!(step(&mut model, Change::Service(key("web"), None)), "-81, -node 30080");
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let mut model = Model::new(NODE);
    let owned_by = |name: &str| {
        Change::Slice(
            id("x"),
            Some((key(name), slice("1", &[("", 80)], vec![endpoint(1, 'r', NODE)]))),
        )
    };
    step(&mut model, Change::Service(key("a"), Some(service(&[("", 80, None)]))));
    step(&mut model, Change::Service(key("b"), Some(service(&[("", 81, None)]))));
    assert_eq!(step(&mut model, owned_by("a")), "+80 1");
    assert_eq!(step(&mut model, owned_by("b")), "+81 1, -80");
}

fn any_change() -> impl Strategy<Value = Change> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let any_service = (0u8..3, 80u16..83, prop::option::of(30_000u16..30_002), any::<bool>()).prop_map(
        |(ip, port, node_port, local)| Service {
            cluster_ips: vec![[10, 96, 0, ip].into()],
            external_local: local,
            ..service(&[("", port, node_port)])
        },
    );
    let any_endpoint = (1u8..5, prop::sample::select(vec!['r', 'u', 't', 'x']), any::<bool>())
        .prop_map(|(last, state, near)| endpoint(last, state, if near { NODE } else { "node-2" }));
    let any_slice = (name(), 0u32..100, prop::collection::vec(any_endpoint, 0..4))
        .prop_map(|(of, version, endpoints)| (key(of), slice(&version.to_string(), &[("", 8080)], endpoints)));
    let slice_name = || prop::sample::select(vec!["s1", "s2", "s3"]).prop_map(id);
    prop_oneof![
        4 => (name(), prop::option::weighted(0.8, any_service.clone())).prop_map(|(n, s)| Change::Service(key(n), s)),
        6 => (slice_name(), prop::option::weighted(0.8, any_slice.clone())).prop_map(|(n, s)| Change::Slice(n, s)),
        1 => prop::collection::btree_map(name().prop_map(key), any_service, 0..3).prop_map(Change::Services),
        1 => prop::collection::btree_map(slice_name(), any_slice, 0..3).prop_map(Change::Slices),
    ]
}

proptest! {
    /// However changes come, in whatever batches: the table is that of a fresh start, and what the differences opened
    /// and closed is what the table says.
    #[test]
    fn steps_lead_where_a_fresh_start_leads(changes in prop::collection::vec((any_change(), any::<bool>()), 1..40)) {
        let mut model = Model::new(NODE);
        let mut open: BTreeMap<Frontend, Route> = BTreeMap::new();
        let mut touched = BTreeSet::new();
        for (change, last_of_batch) in changes {
            touched.extend(model.see(change));
            if !last_of_batch {
                continue;
            }
            let diff = model.update(&std::mem::take(&mut touched));
            for frontend in &diff.close {
                prop_assert!(open.remove(frontend).is_some());
            }
            for (frontend, route) in diff.change {
                prop_assert!(open.insert(frontend, route).is_some());
            }
            for (frontend, route) in diff.open {
                prop_assert!(!route.endpoints.is_empty());
                prop_assert!(open.insert(frontend, route).is_none());
            }
            let mut fresh = Model { services: model.services.clone(), slices: model.slices.clone(), ..Model::new(NODE) };
            let all: BTreeSet<_> = model.services.keys().cloned().collect();
            fresh.update(&all);
            prop_assert_eq!(&fresh.table, model.table());
            let with_endpoints = |table: &BTreeMap<Frontend, Route>| -> BTreeMap<Frontend, Route> {
                table.iter().filter(|(_, r)| !r.endpoints.is_empty()).map(|(f, r)| (*f, r.clone())).collect()
            };
            prop_assert_eq!(with_endpoints(model.table()), open.clone());
        }
    }

    /// Nothing is routed to an endpoint that is neither ready nor serving while it ends, and never to a terminating one
    /// while another is ready.
    #[test]
    fn only_endpoints_that_serve_are_routed_to(states in "[rutx]{0,8}") {
        let chosen = choice(&states);
        let of = |wanted: char| -> Vec<String> {
            let found = states.chars().enumerate().filter(|(_, s)| *s == wanted);
            found.map(|(i, _)| format!("10.244.0.{}:8080", i + 1)).collect()
        };
        let expected = if of('r').is_empty() { of('t') } else { of('r') };
        prop_assert_eq!(chosen, expected);
    }
}
