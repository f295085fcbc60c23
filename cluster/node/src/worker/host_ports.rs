//! `hostPort`: ports of the node's address that lead to a pod, in user space, as long as the pod has its network.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::pod::spec;

/// Connections of one port at a time; more wait.
const CONNECTIONS_MAX: usize = 512;
/// Clients of one UDP port at a time; datagrams of more are lost.
const FLOWS_MAX: usize = 512;
/// How long the pod may take to accept.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A UDP client that is silent for so long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// After a failure of `accept`, which is mostly a want of descriptors.
const PAUSE: Duration = Duration::from_millis(10);
const DATAGRAM_BYTES: usize = 65_535;

/// One port to open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostPort {
    udp: bool,
    /// On the node.
    address: SocketAddr,
    /// In the pod.
    port: u16,
}

/// The pod's host ports; in the node's network they are its own already. Pure.
fn wanted(pod: &Pod, node_ip: IpAddr) -> Result<Vec<HostPort>, String> {
    if spec::host_network(pod) {
        return Ok(vec![]);
    }
    let ports = spec::all_containers(pod).flat_map(|container| container.ports.iter().flatten());
    let mut found = vec![];
    for port in ports {
        let Some(number) = port.host_port.filter(|number| *number != 0) else {
            continue;
        };
        let number = u16::try_from(number).map_err(|_| format!("hostPort {number} is no port"))?;
        let inside = u16::try_from(port.container_port).map_err(|_| "containerPort is no port".to_owned())?;
        let address = match port.host_ip.as_deref() {
            None | Some("" | "0.0.0.0" | "::") => node_ip,
            Some(text) => text.parse::<IpAddr>().ok().filter(|ip| *ip == node_ip).ok_or_else(|| {
                format!("hostIP {text} is not an address of this node: use {node_ip} or leave it out")
            })?,
        };
        let udp = match port.protocol.as_deref() {
            None | Some("" | "TCP") => false,
            Some("UDP") => true,
            Some(other) => {
                return Err(format!(
                    "hostPort {number}: protocol {other} is not supported by this node"
                ));
            }
        };
        found.push(HostPort {
            udp,
            address: SocketAddr::new(address, number),
            port: inside,
        });
    }
    Ok(found)
}

/// Opens the pod's host ports; they are closed when the answer is dropped.
pub(crate) async fn open(pod: &Pod, node_ip: IpAddr, pod_ip: IpAddr) -> Result<JoinSet<()>, String> {
    let mut tasks = JoinSet::new();
    for HostPort { udp, address, port } in wanted(pod, node_ip)? {
        let failed = |error: io::Error| format!("hostPort {}: cannot listen on {address}: {error}", address.port());
        let target = SocketAddr::new(pod_ip, port);
        if udp {
            let socket = UdpSocket::bind(address).await.map_err(failed)?;
            tasks.spawn(datagrams(Arc::new(socket), target).boxed());
        } else {
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            tasks.spawn(connections(listener, target).boxed());
        }
    }
    Ok(tasks)
}

async fn connections(listener: TcpListener, target: SocketAddr) {
    let limit = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut running = JoinSet::new();
    loop {
        while running.try_join_next().is_some() {}
        let Ok(permit) = limit.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((client, _)) => {
                running.spawn(FutureExt::boxed(async move {
                    // What goes wrong shows to the client as the end of its connection.
                    let _ = relay(client, target).await;
                    drop(permit);
                }));
            }
            Err(error) => {
                tracing::debug!(%error, "accept failed");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn relay(mut client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut server = timeout(CONNECT_LIMIT, TcpStream::connect(target)).await??;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

async fn datagrams(socket: Arc<UdpSocket>, target: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut flows: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut running: JoinSet<SocketAddr> = JoinSet::new();
    loop {
        let (length, client) = tokio::select! {
            Some(ended) = running.join_next() => {
                if let Ok(client) = ended {
                    flows.remove(&client);
                }
                continue;
            }
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                Err(error) => {
                    tracing::debug!(%error, "receive failed");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        if !flows.contains_key(&client) && flows.len() < FLOWS_MAX {
            match connected(target).await {
                Ok(flow) => {
                    let flow = Arc::new(flow);
                    flows.insert(client, flow.clone());
                    running.spawn(answers(flow, socket.clone(), client).boxed());
                }
                Err(error) => tracing::debug!(%error, %target, "no socket to the pod"),
            }
        }
        if let Some(flow) = flows.get(&client) {
            // A datagram may get lost, as in any network.
            let _ = flow.send(buffer.get(..length).unwrap_or_default()).await;
        }
    }
}

async fn connected(target: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    socket.connect(target).await?;
    Ok(socket)
}

/// Takes the pod's answers back until there are none for a while.
async fn answers(flow: Arc<UdpSocket>, socket: Arc<UdpSocket>, client: SocketAddr) -> SocketAddr {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    while let Ok(Ok(length)) = timeout(IDLE, flow.recv(&mut buffer)).await {
        let _ = socket.send_to(buffer.get(..length).unwrap_or_default(), client).await;
    }
    client
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ports(ports: Value, host_network: bool) -> Result<Vec<String>, String> {
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "hostNetwork": host_network, "containers": [{"name": "c", "ports": ports}],
        }}))
        .unwrap();
        let found = wanted(&pod, [10, 244, 1, 1].into())?;
        let kind = |udp| if udp { "udp" } else { "tcp" };
        Ok(found
            .iter()
            .map(|p| format!("{} {} → {}", kind(p.udp), p.address, p.port))
            .collect())
    }

    #[test]
    fn ports_of_the_node_lead_to_the_pod() {
        let all = json!([
            {"containerPort": 80}, {"containerPort": 80, "hostPort": 8080},
            {"containerPort": 53, "hostPort": 53, "protocol": "UDP", "hostIP": "10.244.1.1"},
        ]);
        assert_eq!(
            ports(all.clone(), false),
            Ok(vec!["tcp 10.244.1.1:8080 → 80".into(), "udp 10.244.1.1:53 → 53".into()])
        );
        assert_eq!(ports(all, true), Ok(vec![]));
        let elsewhere = json!([{"containerPort": 80, "hostPort": 80, "hostIP": "127.0.0.1"}]);
        assert!(ports(elsewhere, false).is_err_and(|error| error.contains("hostIP 127.0.0.1")));
    }

    #[tokio::test]
    async fn a_connection_reaches_the_pod() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = front.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(connections(front, target));
        let mut client = TcpStream::connect(address).await.unwrap();
        let (mut accepted, _) = server.accept().await.unwrap();
        client.write_all(b"ask").await.unwrap();
        let mut read = [0; 3];
        accepted.read_exact(&mut read).await.unwrap();
        accepted.write_all(&read).await.unwrap();
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ask");
    }
}
