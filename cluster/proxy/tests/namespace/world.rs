//! Two node bridges with a pod each, in one network namespace, as Afloat lays them out.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, kept by a thread that lives in it; node n has bridge `br{n}` and its pod is 10.244.n.5.
pub(crate) struct Pod {
    jobs: mpsc::Sender<Job>,
    pub(crate) ip: Ipv4Addr,
}

pub(crate) struct World {
    pub(crate) pods: [Pod; 2],
}

pub(crate) fn ip(args: &str) {
    let done = Command::new("ip").args(args.split_whitespace()).status().unwrap();
    assert!(done.success(), "ip {args}");
}

/// Builds it once; the namespace goes with the process.
pub(crate) fn build() -> World {
    ip("link set lo up");
    ip("route add local 10.96.0.0/16 dev lo");
    World { pods: [pod(1), pod(2)] }
}

fn pod(node: u8) -> Pod {
    let (jobs, queue) = mpsc::channel::<Job>();
    let (ready, wait) = mpsc::channel();
    thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        ready.send(nix::unistd::gettid()).unwrap();
        for job in queue {
            job();
        }
    });
    let namespace = format!("/proc/{}/task/{}/ns/net", std::process::id(), wait.recv().unwrap());
    ip(&format!("link add br{node} type bridge"));
    ip(&format!("addr add 10.244.{node}.1/24 dev br{node}"));
    ip(&format!("link set br{node} up"));
    ip(&format!("link add v{node} type veth peer name eth0 netns {namespace}"));
    ip(&format!("link set v{node} master br{node} up"));
    let pod = Pod {
        jobs,
        ip: Ipv4Addr::new(10, 244, node, 5),
    };
    pod.run(move || {
        for last in [5, 6, 7] {
            ip(&format!("addr add 10.244.{node}.{last}/24 dev eth0"));
        }
        ip("link set lo up");
        ip("link set eth0 up");
        ip(&format!("route add default via 10.244.{node}.1"));
    });
    pod
}

impl Pod {
    /// Runs something inside; sockets made there belong there for ever.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, wait) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(answer.send(job())))).unwrap();
        wait.recv().unwrap()
    }

    pub(crate) fn listen(&self, last: u8, port: u16) -> TcpListener {
        let [a, b, c, _] = self.ip.octets();
        self.run(move || TcpListener::bind((Ipv4Addr::new(a, b, c, last), port)).unwrap())
    }

    pub(crate) fn connect(&self, address: &str) -> std::io::Result<TcpStream> {
        let address: SocketAddr = address.parse().unwrap();
        self.run(move || connect(address))
    }

    pub(crate) fn udp(&self, port: u16) -> UdpSocket {
        let address = (self.ip, port);
        self.run(move || UdpSocket::bind(address).unwrap())
    }
}

pub(crate) fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(60))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Waits for something that has to come true soon.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}
