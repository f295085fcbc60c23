//! kubectl with streams of ours: pipes, a forwarded port, a terminal.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use crate::cluster::{Cluster, kubectl_program, signal_process, wait_until};

/// kubectl with its streams as pipes.
pub(crate) fn spawn(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(kubectl_program().expect("checked before the boot"));
    command.arg("--kubeconfig").arg(cluster.dir().join("kubeconfig"));
    command.args(arguments).envs(environment.iter().copied());
    let streams = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    streams.spawn().expect("kubectl starts")
}

/// The same to its end, with an input that is closed.
pub(crate) fn run(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = spawn(cluster, arguments, environment);
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().expect("kubectl ends");
    writer.join().expect("the input was written");
    output
}

/// The page of the pod's web server, or what was answered instead.
pub(crate) fn page(port: u16) -> String {
    let mut answer = String::new();
    let asked = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    drop(asked);
    answer
}

/// `kubectl port-forward` to the first port of `ports`, on a port that it chose.
pub(crate) struct Forward {
    child: Child,
    pub(crate) port: u16,
}

impl Forward {
    pub(crate) fn start(cluster: &Cluster, target: &str, port: u16, environment: &[(&str, &str)]) -> Self {
        let ports = format!(":{port}");
        let mut child = spawn(
            cluster,
            &["port-forward", target, &ports, "--address=127.0.0.1"],
            environment,
        );
        let out = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let mut lines = out.lines().map_while(Result::ok);
        let first = lines.next().expect("it says where it listens");
        let port = first
            .strip_prefix("Forwarding from 127.0.0.1:")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|port| port.parse().ok());
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.unwrap_or_else(|| panic!("{first}"));
        Self { child, port }
    }

    pub(crate) fn stop(mut self) {
        signal_process(self.child.id(), "INT");
        self.child.wait().expect("kubectl ends");
    }

    /// What it said when it gave up by itself.
    pub(crate) fn last_words(self) -> String {
        let output = self.child.wait_with_output().expect("kubectl ends");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// A terminal for kubectl.
pub(crate) struct Terminal {
    pub(crate) child: Child,
    pub(crate) master: std::fs::File,
    said: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Terminal {
    pub(crate) fn start(cluster: &Cluster, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("ours");
        let name = ptsname(&master, Vec::new())
            .expect("its name")
            .into_string()
            .expect("UTF-8");
        let open = || {
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(&name)
                .expect("its other end")
        };
        let mut command = Command::new(kubectl_program().expect("checked before the boot"));
        command.arg("--kubeconfig").arg(cluster.dir().join("kubeconfig"));
        command.args(arguments).envs(environment.iter().copied());
        let master = std::fs::File::from(master);
        resize(&master, 30, 100);
        let child = command
            .stdin(open())
            .stdout(open())
            .stderr(open())
            .spawn()
            .expect("kubectl starts");
        drop(command);
        let said = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let (mut from, all) = (master.try_clone().expect("a descriptor"), said.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                all.lock()
                    .expect("no panic")
                    .push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Self { child, master, said }
    }

    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.master, "{line}").expect("a terminal takes it");
    }

    pub(crate) fn expect(&self, text: &str) {
        wait_until(text, || self.said.lock().expect("no panic").contains(text));
    }

    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().expect("kubectl ends").code()
    }
}

pub(crate) fn resize(master: &std::fs::File, ws_row: u16, ws_col: u16) {
    let (ws_xpixel, ws_ypixel) = (0, 0);
    let size = rustix::termios::Winsize {
        ws_row,
        ws_col,
        ws_xpixel,
        ws_ypixel,
    };
    rustix::termios::tcsetwinsize(master, size).expect("a terminal has a size");
}
