//! A container by an OCI runtime alone, with no network, limits or output of its own: what one runtime takes beside another, with the same
//! configuration and root file system.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use super::bundle::host_facts::HostFacts;
use super::bundle::rootfs;
use super::bundle::spec::{Joined, Processes, Surroundings, config};
use super::command::{OciCommand, nothing};
use super::work::{blocking, failed};
use crate::container::{ContainerSpec, Seccomp};
use crate::host::BUNDLES_DIR;
use crate::host::zygote::Carried;
use crate::image::{ImageStore, LAYERS_NOTE};
use crate::process::read_pid;
use crate::removal::remove_all;
use crate::runtime::RuntimeError;

/// How long a killed process may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Makes a container of this image that many times, one after another, lets its process begin, kills it, and has the runtime forget it.
/// Answers how long each took without the killing. `dir`: for its files; removed afterwards.
///
/// # Errors
/// The image or the runtime cannot be used.
pub async fn time_alone(
    program: &Path,
    images: &ImageStore,
    image: &str,
    dir: PathBuf,
    rounds: u32,
) -> Result<Vec<Duration>, RuntimeError> {
    let (command, bundle) = (OciCommand::new(program), Path::new(BUNDLES_DIR).join("alone"));
    let all = async {
        prepare(images, image, &dir, &bundle)?;
        let mut took = Vec::new();
        for round in 0..rounds {
            took.push(one(&command, &dir, &bundle, &format!("alone-{round}")).await?);
        }
        Ok(took)
    };
    let outcome = all.await;
    let removed = rootfs::remove(&dir).and_then(|()| remove_all(&bundle));
    outcome.and_then(|took| match removed {
        Ok(()) => Ok(took),
        Err(error) => Err(failed("removing what was measured", &error)),
    })
}

/// Root file system and configuration. Blocks for a moment.
fn prepare(images: &ImageStore, image: &str, dir: &Path, bundle: &Path) -> Result<(), RuntimeError> {
    let found = images.find(image)?;
    let found = found.ok_or_else(|| RuntimeError::NotFound(format!("image {image}")))?;
    fs::create_dir_all(dir).map_err(|e| failed(format!("making {}", dir.display()), &e))?;
    let layers = images.pin(&found.id, &dir.join(LAYERS_NOTE))?.layers;
    let root = rootfs::mount_rootfs(dir, &layers, false).map_err(|e| failed("mounting the root file system", &e))?;
    let spec = ContainerSpec {
        image_id: found.id,
        args: [found.config.entrypoint, found.config.cmd].concat(),
        env: found.config.env,
        seccomp: Seccomp::RuntimeDefault,
        ..ContainerSpec::default()
    };
    let facts = HostFacts::read();
    let around = Surroundings {
        rootfs: &root,
        namespace: None,
        hostname: "alone",
        own_capabilities: facts.capabilities,
        joined: Joined {
            ipc: None,
            shared_memory: "/dev/shm".into(),
            processes: Processes::Own,
        },
        has_tty_group: facts.has_group(5),
        no_devices: false,
        open_files: crate::host::open_files::of_containers(),
        sources: &[],
    };
    let text = config(&spec, &around)?.to_string();
    fs::create_dir_all(bundle)
        .and_then(|()| fs::write(bundle.join("config.json"), text))
        .map_err(|e| failed("writing config.json", &e))
}

async fn one(command: &OciCommand, dir: &Path, bundle: &Path, id: &str) -> Result<Duration, RuntimeError> {
    let (log, pid_file, root) = (dir.join("runtime.log"), dir.join("pid"), dir.join("rootfs"));
    let (bundle, pid) = (bundle.display().to_string(), pid_file.display().to_string());
    let args = ["create", "--bundle", &bundle, "--pid-file", &pid, id];
    let streams: [OwnedFd; 3] = [nothing()?, nothing()?, nothing()?];
    let begun = Instant::now();
    let carried = if command.own {
        vec![Carried::from(root).map_err(|e| failed("taking the root file system along", &e))?]
    } else {
        vec![]
    };
    command.run_verb(&log, &args, Some(streams), carried).await?;
    command.start(&log, id).await?;
    let mut took = begun.elapsed();
    let process = blocking(move || read_pid(&pid_file).ok_or_else(|| RuntimeError::Failed("it has no process".into())));
    end(process.await?).await?;
    let begun = Instant::now();
    command.delete(&log, id).await?;
    took += begun.elapsed();
    Ok(took)
}

async fn end(process: i32) -> Result<(), RuntimeError> {
    let open = || -> std::io::Result<AsyncFd<Arc<OwnedFd>>> {
        let process = Pid::from_raw(process).ok_or(std::io::ErrorKind::InvalidInput)?;
        let process = pidfd_open(process, PidfdFlags::NONBLOCK)?;
        pidfd_send_signal(&process, Signal::KILL)?;
        super::watch::register(Arc::new(process))
    };
    let process = open().map_err(|e| failed("killing it", &e))?;
    match tokio::time::timeout(END_LIMIT, process.readable()).await {
        Ok(ended) => ended.map(drop).map_err(|e| failed("waiting for its end", &e)),
        Err(_) => Err(RuntimeError::Failed("it does not die".into())),
    }
}
