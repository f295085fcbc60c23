//! The process layout that a cluster with nodes needs, and how a program has it.
//!
//! Real containers need namespaces, and those must be made before there are threads. So a program that has nodes is one program in
//! several processes: the *outer* one, which its user started and which stays on the host; a small process that is pid 1 of the
//! new namespaces; the *inner* one, in which the cluster lives; and one for each thing that is done to a container. All of them run the
//! same file, so `main` has to find out first which of them it is: [`run`] does.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use afloat_runtime::host;
pub use afloat_runtime::host::{HostError, HostOptions, Inherited};

/// When the outer process was started, nanoseconds of the monotonic clock; boot times count from there.
const STARTED: &str = "AFLOAT_STARTED";

/// Resident pages of the outer process, which cannot be seen from the inner one's namespace and does not grow.
const OUTER_PAGES: &str = "AFLOAT_OUTER_PAGES";

/// The host's `/etc/resolv.conf`, which often leads to a folder that the inner process does not see.
pub(crate) const HOST_RESOLV_CONF: &str = "AFLOAT_HOST_RESOLV_CONF";

/// First argument of the inner process.
pub const INNER: &str = "inner";

/// First argument of the processes that do something to a container.
pub const OCI: &str = "oci";

/// How long what the inner process has begun may take to end, once it is done.
const LAST_LIMIT: Duration = Duration::from_secs(1);

/// The whole of `main` of a program that does `inside` in the inner process, in a folder that goes with it. To be called before the
/// program has done anything else, as it must have one thread only; what is behind it in `main` runs in no process but the outer.
///
/// `inside` runs on a multi-threaded tokio runtime. Its error is printed, and makes the program fail. The program's arguments are the
/// same in both processes, but for a first one in the inner. Whatever happens to the outer process, nothing of the inside outlives it.
///
/// # Errors
/// [`HostError::Unsupported`] where the kernel does not allow it, with what to do about it; others if a system call fails.
pub fn run<R, E>(inside: impl FnOnce(Inherited) -> R) -> Result<ExitCode, HostError>
where
    R: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let code = match arguments.first().and_then(|first| first.to_str()) {
        Some(OCI) => host::oci_main(&arguments[1..]),
        Some(INNER) => inner(|inherited| once(inherited, inside))?,
        _ => {
            arguments.insert(0, INNER.into());
            outer(HostOptions {
                inner_args: arguments,
                ..HostOptions::default()
            })?
        }
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Pid 1 starts an inner process anew that had an accident; what a program does inside is begun only once.
async fn once<R, E>(inherited: Inherited, inside: impl FnOnce(Inherited) -> R) -> i32
where
    R: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    if inherited.restarts > 0 {
        eprintln!("the process inside died half-way");
        return 1;
    }
    match inside(inherited).await {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    }
}

/// The outer process: [`host::run`] with what a cluster inside wants to know of the outside. The inner process' arguments must begin
/// with a word by which `main` knows to call [`inner`], and `main` must call [`host::oci_main`] for [`OCI`].
///
/// # Errors
/// See [`host::run`].
pub fn outer(mut options: HostOptions) -> Result<i32, HostError> {
    // As it does again when all is started: so much of it stays.
    let _ = afloat_runtime::program::release_pages();
    options.environment.extend([
        (STARTED.into(), monotonic().as_nanos().to_string().into()),
        (HOST_RESOLV_CONF.into(), host_resolv_conf().into()),
        (OUTER_PAGES.into(), resident_pages("self").to_string().into()),
    ]);
    host::run(options)
}

/// The inner process: takes over what the outer one left for it, and runs `body` on a runtime of its own.
///
/// # Errors
/// [`HostError::NotInside`] in a process that [`outer`] did not start.
pub fn inner<R: Future>(body: impl FnOnce(Inherited) -> R) -> Result<R::Output, HostError> {
    let inherited = host::inherited()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|source| HostError::System {
        what: "starting threads",
        source,
    })?;
    let result = runtime.block_on(body(inherited));
    runtime.shutdown_timeout(LAST_LIMIT);
    Ok(result)
}

fn host_resolv_conf() -> String {
    std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()
}

fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

/// In the inner process: how long ago the outer one was started.
pub fn since_start() -> Duration {
    let started = std::env::var(STARTED)
        .ok()
        .and_then(|v| v.parse::<u64>().ok())
        .map(Duration::from_nanos);
    started.map_or(Duration::ZERO, |s| monotonic().saturating_sub(s))
}

/// In the inner process: resident memory of all of the program's own processes (outer, pid 1, inner and the one that forks for
/// containers; not of containers), MiB. Pages that they share count once for each.
pub fn rss_mib() -> f64 {
    let outer = std::env::var(OUTER_PAGES)
        .ok()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0_u64);
    let zygote = afloat_runtime::oci::zygote_process().map(|pid| resident_pages(&pid.to_string()));
    let pages = resident_pages("self") + resident_pages("1") + zygote.unwrap_or(0) + outer;
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    let bytes = (pages * rustix::param::page_size() as u64) as f64;
    bytes / (1024.0 * 1024.0)
}

fn resident_pages(pid: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}
