//! Images as distributions and builders make them.

use super::made::{Item, Packed, packed};
use anyhow::Result;

type Shape = (&'static str, Vec<Packed>);

pub(super) fn all() -> Result<Vec<Shape>> {
    Ok(vec![
        ("debian", debian()?),
        ("alpine", alpine()?),
        ("distroless", distroless()?),
        ("bazel", bazel()?),
        ("nix", nix()?),
        ("kaniko", kaniko()?),
        ("many", many()?),
        ("sparse", sparse()?),
    ])
}

/// Debian's and what apt leaves: merged `/usr`, set-user-id, hard links, then a layer of a Dockerfile's `RUN`.
fn debian() -> Result<Vec<Packed>> {
    let mut base = vec![Item::folder("./", 0o755)];
    for name in [
        "etc",
        "usr",
        "usr/bin",
        "usr/lib",
        "usr/sbin",
        "usr/share",
        "var",
        "var/lib",
        "var/lib/dpkg",
        "home",
    ] {
        base.push(Item::folder(&format!("{name}/"), 0o755).at(1_500_000_000));
    }
    for (name, target) in [
        ("bin", "usr/bin"),
        ("lib", "usr/lib"),
        ("sbin", "usr/sbin"),
        ("lib64", "usr/lib64"),
    ] {
        base.push(Item::link(name, target));
    }
    base.extend([
        Item::folder("tmp/", 0o1777),
        Item::folder("root/", 0o700),
        Item::folder("var/mail/", 0o2775).owned(0, 8),
        Item::folder("var/local/", 0o2775).owned(0, 50),
        Item::folder("usr/lib64/", 0o755),
        Item::link(
            "usr/lib64/ld-linux-x86-64.so.2",
            "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        ),
        Item::link("var/run", "/run"),
        Item::link("var/lock", "/run/lock"),
        Item::link("etc/mtab", "/proc/mounts"),
        Item::file("usr/bin/perl", 0o755, b"perl"),
        Item::hard_link("usr/bin/perl5.36.0", "usr/bin/perl", 0o755),
        Item::file("usr/bin/passwd", 0o4755, b"passwd"),
        Item::file("usr/bin/wall", 0o2755, b"wall").owned(0, 5),
        Item::file("etc/shadow", 0o640, b"root:*:").owned(0, 42),
        Item::file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\n"),
    ]);
    let net_raw = b"\x01\0\0\x02\x00\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let run = vec![
        Item::folder("usr/", 0o755).at(1_600_000_000),
        Item::folder("usr/bin/", 0o755),
        Item::file("usr/bin/ping", 0o755, b"ping").record("SCHILY.xattr.security.capability", net_raw),
        // As BuildKit writes hard links: all names again, where one is changed.
        Item::file("usr/bin/perl", 0o755, b"perl 2"),
        Item::hard_link("usr/bin/perl5.36.0", "usr/bin/perl", 0o755),
        Item::folder("var/", 0o755),
        Item::folder("var/lib/", 0o755),
        Item::folder("var/lib/dpkg/", 0o755),
        Item::whiteout("var/lib/dpkg/.wh.lock"),
        Item::file("var/lib/dpkg/status", 0o644, b"Package: x"),
        Item::whiteout("etc/.wh.mtab"),
    ];
    Ok(vec![packed(&base, 1)?, packed(&run, 1)?])
}

/// busybox: hundreds of links to one file, each an absolute one.
fn alpine() -> Result<Vec<Packed>> {
    let mut base: Vec<Item> = ["bin/", "etc/", "etc/apk/", "lib/", "lib/apk/", "lib/apk/db/"]
        .iter()
        .map(|name| Item::folder(name, 0o755))
        .collect();
    base.push(Item::file("bin/busybox", 0o755, b"busybox"));
    base.extend((0..300).map(|number| Item::link(&format!("bin/tool{number}"), "/bin/busybox")));
    base.push(Item::folder("var/empty/", 0o555));
    base.push(Item::folder("tmp/", 0o1777));
    base.push(Item::file("lib/apk/db/lock", 0o600, b""));
    let apk = vec![
        Item::file("lib/apk/db/installed", 0o644, b"P:x"),
        Item::whiteout("lib/apk/db/.wh.lock"),
    ];
    Ok(vec![packed(&base, 1)?, packed(&apk, 1)?])
}

/// Many small layers of `./` names, each package's status in a file of its own, and a user's folder from a layer below.
fn distroless() -> Result<Vec<Packed>> {
    let mut layers = Vec::new();
    let base = vec![
        Item::folder("./", 0o755).at(0),
        Item::folder("./home/", 0o755).at(0),
        Item::folder("./home/nonroot/", 0o700).owned(65_532, 65_532).at(0),
        Item::folder("./tmp/", 0o1777).at(0),
        Item::folder("./root/", 0o700).at(0),
    ];
    layers.push(packed(&base, 1)?);
    for package in ["base-files", "netbase", "tzdata", "media-types", "libc6", "libssl3"] {
        let items = vec![
            Item::file(&format!("./var/lib/dpkg/status.d/{package}"), 0o644, package.as_bytes()).at(0),
            Item::file(&format!("./usr/share/doc/{package}/copyright"), 0o644, b"free").at(0),
        ];
        layers.push(packed(&items, 1)?);
    }
    let app = vec![
        Item::file("./home/nonroot/app/main", 0o555, b"app").owned(65_532, 65_532),
        Item::file("./root/.config/x", 0o644, b"x"),
        Item::file("./tmp/seed", 0o644, b"x"),
    ];
    layers.push(packed(&app, 2)?);
    Ok(layers)
}

/// rules_docker's and rules_oci's: no entries for folders, time 0, in no order, a name twice.
fn bazel() -> Result<Vec<Packed>> {
    let below = vec![
        Item::folder("app", 0o750).owned(1000, 1000),
        Item::folder("app/data", 0o700).owned(1000, 7),
    ];
    let items = vec![
        Item::file("./app/run.runfiles/main/z.py", 0o555, b"z").at(0),
        Item::file("/app/run.runfiles/external/dep/a.py", 0o555, b"a").at(0),
        Item::link("app/run.runfiles/main/external", "../external").at(0),
        Item::file("app/data/more/file", 0o555, b"1").at(0),
        Item::file("app/run", 0o555, b"first").at(0),
        Item::file("app/run", 0o555, b"second").at(0),
        Item::folder("app/run.runfiles", 0o755).at(0),
    ];
    let top = vec![Item::file("app/data/more/again", 0o555, b"2").at(0)];
    let layers = [below, items.clone(), top, items];
    layers.iter().map(|items| packed(items, 1)).collect()
}

/// A layer for each path of the store, deep, all read-only, time 1; and one that links to them.
fn nix() -> Result<Vec<Packed>> {
    let mut layers = Vec::new();
    let hash = |number: usize| format!("{number:0>32}");
    for number in 0..100 {
        let store = format!("nix/store/{}-package-{number}", hash(number));
        let mut items = vec![
            Item::folder("nix", 0o755),
            Item::folder("nix/store", 0o1775).owned(0, 30_000),
            Item::folder(&store, 0o555),
        ];
        let mut deep = store.clone();
        for part in [
            "share",
            "python3.11",
            "site-packages",
            "some_quite_long_name_of_a_package",
            "inner",
        ] {
            deep = format!("{deep}/{part}");
            items.push(Item::folder(&deep, 0o555));
        }
        items.push(Item::file(&format!("{deep}/file"), 0o444, hash(number).as_bytes()));
        items.push(Item::link(
            &format!("{store}/dep"),
            &format!("/nix/store/{}-package-{}", hash(number + 1), number + 1),
        ));
        layers.push(packed(&items, number as u64 % 3)?);
    }
    let links = vec![
        Item::link("bin", &format!("/nix/store/{}-package-0/share", hash(0))),
        Item::folder("etc", 0o755),
        Item::link("etc/passwd", &format!("/nix/store/{}-package-1/passwd", hash(1))),
    ];
    layers.push(packed(&links, 0)?);
    Ok(layers)
}

/// Whiteouts of whole trees, opaque folders, and what comes again later as something else.
fn kaniko() -> Result<Vec<Packed>> {
    let layers = [
        vec![
            Item::folder("srv", 0o711),
            Item::file("srv/one/two/file", 0o600, b"old").owned(5, 6),
            Item::folder("srv/one", 0o701).owned(5, 6),
            Item::file("gone/file", 0o644, b"old"),
            Item::link("link", "srv"),
        ],
        vec![
            Item::whiteout("srv/one/.wh..wh..opq"),
            Item::file("srv/one/new", 0o644, b"new"),
            Item::whiteout(".wh.gone"),
        ],
        vec![
            Item::file("gone", 0o644, b"a file now"),
            Item::file("link/inside", 0o644, b"a folder now"),
        ],
        vec![
            Item::whiteout(".wh.gone"),
            Item::whiteout(".wh.link"),
            Item::file("srv/one/two/again", 0o644, b"x"),
        ],
    ];
    layers.iter().map(|items| packed(items, 1)).collect()
}

/// As many layers as Docker has at most, every tenth of them the same.
fn many() -> Result<Vec<Packed>> {
    let of = |number: usize| {
        let path = format!("d/{number}/file");
        let hidden = Item::whiteout(&format!("d/.wh.{}", number.saturating_sub(3)));
        vec![
            Item::file(&path, 0o644, path.as_bytes()),
            hidden,
            Item::file("last", 0o644, path.as_bytes()),
        ]
    };
    let numbers = (0..127).map(|number| if number % 10 == 9 { 4 } else { number });
    numbers.map(|number| packed(&of(number + 5), 1)).collect()
}

/// Files with holes in all forms that containerd reads, more pieces than a header takes among them.
fn sparse() -> Result<Vec<Packed>> {
    let pieces: Vec<(u64, &[u8])> = (0..60).map(|number| (number * 8192, &b"piece"[..])).collect();
    let size = 60 * 8192;
    let mut items: Vec<Item> = Vec::new();
    for form in 0..3 {
        items.push(Item::sparse(&format!("some{form}"), 0o644, form, size, &pieces[..1]));
        items.push(Item::sparse(&format!("many{form}"), 0o600, form, size, &pieces).at(7));
        items.push(Item::sparse(
            &format!("holes{form}"),
            0o600,
            form,
            size,
            &[(size, &b""[..])],
        ));
    }
    Ok(vec![packed(&items, 1)?])
}
