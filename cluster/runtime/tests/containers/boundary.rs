//! What a container may reach: hostile ones try.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use afloat_runtime::below::{self, Links};
use afloat_runtime::host::Inherited;
use afloat_runtime::image::{BuildSpec, ImageStore};
use afloat_runtime::{ContainerSpec, Mount, Runtime as _, RuntimeError, Seccomp};
use anyhow::{Context as _, ensure};

use crate::inner::{Inside, LIMIT};

/// Containers that are started while somebody swaps a folder for a link.
const RACES: usize = 200;
const AT_ONCE: usize = 4;
/// What nobody is to find on a disk.
const SECRET: &str = "the-value-of-a-secret";

pub(crate) async fn play(inside: &Inside, inherited: &Inherited) -> anyhow::Result<()> {
    inside.sandbox().await?;
    let image = tools(inside)?;
    let world = World { inside, image };
    world.devices(inherited).await?;
    println!("ok devices");
    world.roots().await?;
    println!("ok roots");
    world.volumes().await?;
    println!("ok volumes");
    world.secrets().await?;
    println!("ok secrets");
    world.descriptors().await?;
    println!("ok descriptors");
    Ok(inside.runtime.remove_sandbox("pod").await?)
}

/// A shell with a few programs; `also`: links in it, and where they lead.
fn build(inside: &Inside, name: &str, also: &[(&str, &str)]) -> anyhow::Result<String> {
    let mut files: Vec<(PathBuf, String)> = ["sh", "cat", "ls", "mknod"]
        .iter()
        .map(|name| (Path::new("/bin").join(name), format!("/bin/{name}")))
        .collect();
    let extra = tempfile::tempdir()?;
    for (path, target) in also {
        let link = extra.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(link.parent().context("a parent")?)?;
        match *target {
            "a folder" => fs::create_dir(&link)?,
            "a file" => fs::write(&link, "")?,
            target => symlink(target, &link)?,
        }
    }
    files.push((extra.path().to_owned(), "/".into()));
    let spec = BuildSpec {
        name: name.into(),
        files,
        libraries: true,
        ..BuildSpec::default()
    };
    Ok(ImageStore::open(&inside.dir.join("images"))?.build(&spec)?.id)
}

fn tools(inside: &Inside) -> anyhow::Result<String> {
    build(inside, "tools", &[])
}

struct World<'a> {
    inside: &'a Inside,
    image: String,
}

impl World<'_> {
    fn spec(&self, name: &str, script: &str) -> ContainerSpec {
        ContainerSpec {
            image_id: self.image.clone(),
            ..self.inside.spec(name, 0, script)
        }
    }

    /// Runs it to its end; answers what it said.
    async fn run(&self, spec: &ContainerSpec) -> anyhow::Result<String> {
        let _ = tokio::fs::remove_file(&spec.log_path).await;
        let id = self.inside.runtime.create_container(spec).await?;
        self.inside.runtime.start_container(&id).await?;
        self.inside.exit_of(&id).await?;
        let end = format!("end of {}", spec.name);
        crate::inner::wait_for_text(&spec.log_path, &end).await?;
        self.inside.runtime.remove_container(&id).await?;
        Ok(tokio::fs::read_to_string(&spec.log_path).await?)
    }

    async fn refused(&self, spec: &ContainerSpec) -> anyhow::Result<String> {
        match self.inside.runtime.create_container(spec).await {
            Err(RuntimeError::Invalid(message)) => Ok(message),
            other => Err(anyhow::anyhow!("{}: {other:?}", spec.name)),
        }
    }

    /// Opens a disk of the machine by nodes that it makes, and by one in a volume. Only for reading: a test is no attack.
    async fn devices(&self, inherited: &Inherited) -> anyhow::Result<()> {
        let Some((major, minor)) = disk()? else {
            return Ok(()); // a machine without any
        };
        let volume = self.inside.dir.join("volume");
        fs::create_dir(&volume)?;
        if !inherited.rootless {
            let number = rustix::fs::makedev(major, minor);
            let (kind, mode) = (
                rustix::fs::FileType::BlockDevice,
                rustix::fs::Mode::from_raw_mode(0o666),
            );
            rustix::fs::mknodat(rustix::fs::CWD, volume.join("disk"), kind, mode, number)?;
        }
        let script = format!(
            "for f in /made /dev/made /volume/made; do mknod -m 666 $f b {major} {minor} && echo made; (: < $f) && echo opened $f; done; \
             (: < /volume/disk) && echo opened the volume; mknod /dev/pipe p && echo a pipe; \
             : < /dev/zero && : > /dev/null && echo usual ones; echo end of $0"
        );
        for (name, seccomp, uid) in [
            ("plain", Seccomp::Unconfined, 0),
            ("filtered", Seccomp::RuntimeDefault, 0),
        ] {
            let mut spec = self.spec(name, &script);
            spec.args.push(name.into());
            (spec.seccomp, spec.uid) = (seccomp, uid);
            spec.mounts = vec![mount(&volume, "/volume")];
            let said = self.run(&spec).await?;
            ensure!(!said.contains("opened") && said.contains("usual ones"), "{said}");
            ensure!(said.contains("a pipe"), "{said}");
            let guarded = inherited.cgroups.unavailable().is_none();
            ensure!(said.contains("F made") == (guarded && !inherited.rootless), "{said}");
            let _ = fs::remove_file(volume.join("made"));
        }
        ensure!(
            self.inside.runtime.unguarded().is_some()
                == (!inherited.rootless && inherited.cgroups.unavailable().is_some())
        );
        self.commands(inherited, (major, minor)).await
    }

    /// Commands in a container are under the same rules, and a privileged container is under none.
    async fn commands(&self, inherited: &Inherited, (major, minor): (u32, u32)) -> anyhow::Result<()> {
        let script = format!("mknod -m 666 /dev/made b {major} {minor}; (: < /dev/made) && echo opened");
        for privileged in [false, true] {
            let mut spec = self.spec("commands", "while :; do read x < /dev/zero; done");
            spec.args = ["/bin/sh", "-c", crate::inner::LOOP].map(String::from).to_vec();
            spec.image_id = self.inside.image.clone();
            spec.privileged = privileged;
            spec.mounts = vec![mount(Path::new("/bin/mknod"), "/bin/mknod")];
            for library in ["/lib", "/lib64", "/usr/lib"] {
                if Path::new(library).is_dir() {
                    spec.mounts.push(mount(Path::new(library), library));
                }
            }
            let id = self.inside.runtime.create_container(&spec).await?;
            self.inside.runtime.start_container(&id).await?;
            let (said, told, _) = self.inside.run(&id, &script, None).await?;
            ensure!(
                said.contains("opened") == (privileged && !inherited.rootless),
                "{privileged}: {said} {told}"
            );
            self.inside.runtime.signal_container(&id, "KILL").await?;
            self.inside.exit_of(&id).await?;
            self.inside.runtime.remove_container(&id).await?;
        }
        Ok(())
    }

    /// Images whose folders are links, or files, or whose files are links.
    async fn roots(&self) -> anyhow::Result<()> {
        let host = self.inside.dir.join("host");
        fs::create_dir(&host)?;
        fs::write(host.join("ptmx"), "kept")?;
        for (path, what) in [
            ("/dev", host.to_str().context("a path")?),
            ("/proc", "/"),
            ("/sys", "a file"),
            ("/dev", "a file"),
        ] {
            let mut spec = self.spec("root", "exit 0");
            spec.image_id = build(self.inside, "hostile", &[(path, what)])?;
            let told = self.refused(&spec).await?;
            ensure!(told.contains(&format!("a {path} that is no folder")), "{told}");
        }
        ensure!(fs::read_dir(&host)?.count() == 1 && fs::read_to_string(host.join("ptmx"))? == "kept");

        let hosts = self.inside.dir.join("hosts");
        fs::write(&hosts, "of the pod")?;
        let mut spec = self.spec("links", "cat /etc/hosts; ls -l /run/x; echo end of links");
        spec.mounts = vec![mount(&hosts, "/etc/hosts")];
        for target in ["../run/x/y", "/run/x/y", "../../../../run/x/y"] {
            spec.image_id = build(self.inside, "links", &[("/etc/hosts", target)])?;
            let said = self.run(&spec).await?;
            ensure!(said.contains("of the pod"), "{said}");
        }
        ensure!(!Path::new("/run/x").exists(), "nothing is made outside");
        for (what, target, source) in [("a folder", "/etc/hosts", &hosts), ("a file", "/etc/hosts", &host)] {
            spec.image_id = build(self.inside, "kinds", &[("/etc/hosts", what)])?;
            spec.mounts = vec![mount(source, target)];
            let told = self.refused(&spec).await?;
            ensure!(told.contains("mountPath /etc/hosts: the image has"), "{told}");
        }
        // What another volume hides does not count.
        spec.image_id = build(self.inside, "hidden", &[("/data/x", "a file")])?;
        let data = self.inside.dir.join("data-of-pod");
        fs::create_dir_all(data.join("x"))?;
        spec.args = ["/bin/sh", "-c", "ls /data/x; echo end of links"]
            .map(String::from)
            .to_vec();
        spec.mounts = vec![mount(&data, "/data"), mount(&host, "/data/x")];
        let said = self.run(&spec).await?;
        ensure!(said.contains("ptmx"), "{said}");
        // Descriptors that the runtime has open lead nowhere (CVE-2024-21626).
        spec.mounts = vec![];
        spec.image_id = self.image.clone();
        for number in 3..24 {
            let mut spec = self.spec(
                "cwd",
                "cat ../../../../../../run/afloat/boot && echo leaked; echo end of cwd",
            );
            spec.working_dir = format!("/proc/self/fd/{number}");
            if let Ok(id) = self.inside.runtime.create_container(&spec).await {
                self.inside.runtime.remove_container(&id).await?;
                let said = self.run(&spec).await?;
                ensure!(!said.contains("leaked"), "{number}: {said}");
            }
        }
        // The runtime makes links and removes a file in what is mounted there.
        spec.image_id = build(self.inside, "devices", &[("/x", "dev"), ("/dev", "a folder")])?;
        for target in ["/dev", "/dev/", "/a/../dev", "/x", "/"] {
            spec.mounts = vec![mount(&host, target)];
            let told = self.refused(&spec).await?;
            ensure!(told.contains("nothing can be mounted on /dev"), "{told}");
        }
        ensure!(fs::read_dir(&host)?.count() == 1);
        Ok(())
    }

    /// A neighbour swaps a folder of a shared volume with a link, all the time, as the agent looks up a path in it.
    async fn volumes(&self) -> anyhow::Result<()> {
        let volume = self.inside.dir.join("shared-volume");
        fs::create_dir_all(volume.join("x"))?;
        symlink("/", volume.join("y"))?;
        let done = Arc::new(AtomicBool::new(false));
        let (at, stop) = (below::folder(&volume)?, done.clone());
        let neighbour = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(&at, "x", &at, "y", rustix::fs::RenameFlags::EXCHANGE);
            }
        });
        let result = self.race(&volume).await;
        done.store(true, Ordering::Relaxed);
        let _ = neighbour.join();
        result?;
        let left: Vec<_> = fs::read_dir("/run/afloat/mounts/node1")?.flatten().collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    }

    async fn race(&self, volume: &Path) -> anyhow::Result<()> {
        let end = tokio::time::Instant::now() + 2 * LIMIT;
        let mut started = 0;
        while started < RACES && tokio::time::Instant::now() < end {
            let mut specs = vec![];
            while specs.len() < AT_ONCE {
                let looked_up = below::find_or_make(below::folder(volume)?, Path::new("x"), Links::Beneath);
                let Ok(found) = looked_up else { continue };
                let name = format!("race{}", specs.len());
                let mut spec = self.spec(&name, &format!("ls /sub; echo end of {name}"));
                spec.mounts = vec![Mount {
                    found: Some(Arc::<OwnedFd>::new(found)),
                    ..mount(&volume.join("x"), "/sub")
                }];
                specs.push(spec);
            }
            for said in futures::future::try_join_all(specs.iter().map(|spec| self.run(spec))).await? {
                ensure!(!said.contains("proc") && !said.contains("etc"), "{said}");
                started += 1;
            }
        }
        ensure!(started >= AT_ONCE, "only {started} were started in time");
        Ok(())
    }

    /// Neither its environment nor its mounts are written to a disk.
    async fn secrets(&self) -> anyhow::Result<()> {
        let mut spec = self.inside.spec("secret", 0, crate::inner::LOOP);
        spec.env.push(format!("PASSWORD={SECRET}"));
        let memory = self.inside.dir.join("memory");
        fs::create_dir(&memory)?;
        fs::write(memory.join("old"), SECRET)?;
        self.inside.runtime.mount_memory(&memory, 1 << 20).await?;
        ensure!(fs::read_dir(&memory)?.count() == 0, "what was on the disk is gone");
        fs::write(memory.join("file"), SECRET)?;
        self.inside.runtime.mount_memory(&memory, 1 << 20).await?;
        spec.mounts = vec![mount(&memory, "/memory")];
        let id = self.inside.runtime.create_container(&spec).await?;
        self.inside.runtime.start_container(&id).await?;
        let (said, ..) = self.inside.run(&id, "echo $PASSWORD; cat /memory/file", None).await?;
        ensure!(said == format!("{SECRET}\n{SECRET}"), "{said}");
        let found = holding(&self.inside.dir, SECRET)?;
        ensure!(found.is_empty(), "{found:?}");
        self.inside.runtime.signal_container(&id, "KILL").await?;
        self.inside.exit_of(&id).await?;
        self.inside.runtime.remove_container(&id).await?;
        self.inside.runtime.unmount_below(&memory).await?;
        ensure!(fs::read_dir(&memory)?.count() == 0);
        let left: Vec<_> = fs::read_dir("/run/afloat/bundles")?.flatten().collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    }

    /// Containers have the limits that we were started with.
    async fn descriptors(&self) -> anyhow::Result<()> {
        let script = "echo $(ulimit -Sn) $(ulimit -Hn); echo end of descriptors";
        let said = self.run(&self.spec("descriptors", script)).await?;
        ensure!(said.contains("F 1000 4000"), "{said}");
        let own = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        ensure!(own.current == Some(4000), "{own:?}");
        Ok(())
    }
}

/// A block device, if possible one that the machine lets root open.
fn disk() -> anyhow::Result<Option<(u32, u32)>> {
    let names = fs::read_dir("/sys/block")?
        .flatten()
        .map(|entry| entry.file_name().display().to_string());
    let mut names: Vec<String> = names.collect();
    names.sort_by_key(|name| !name.starts_with("loop"));
    let Some(name) = names.first() else { return Ok(None) };
    let text = fs::read_to_string(format!("/sys/block/{name}/dev"))?;
    let (major, minor) = text.trim().split_once(':').context("a number")?;
    Ok(Some((major.parse()?, minor.parse()?)))
}

fn mount(source: &Path, target: &str) -> Mount {
    Mount {
        source: source.to_owned(),
        found: None,
        target: target.into(),
        read_only: false,
    }
}

/// Files on the same disk as this folder, and below it, that have a text in them; images apart.
pub(crate) fn holding(dir: &Path, text: &str) -> anyhow::Result<Vec<PathBuf>> {
    use std::os::unix::fs::MetadataExt as _;
    let (mut found, mut left) = (vec![], vec![dir.to_owned()]);
    let device = fs::metadata(dir)?.dev();
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir)?.flatten() {
            let (path, metadata) = (entry.path(), entry.metadata()?);
            if metadata.dev() != device || path.ends_with("images") || path.ends_with("rootfs") {
                continue;
            }
            if metadata.is_dir() {
                left.push(path);
            } else if metadata.is_file()
                && fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|w| w == text.as_bytes()))
            {
                found.push(path);
            }
        }
    }
    Ok(found)
}
