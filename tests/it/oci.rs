//! Layouts that the tools of the Open Container Initiative make.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::lab::PROGRAM;
use crate::net::sh;

struct Images {
    dir: tempfile::TempDir,
}

impl Images {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Imports what is at `path`: the image's folder, and what the program says.
    fn import(&self, name: &str, path: &str) -> (PathBuf, String) {
        let mut command = Command::new(PROGRAM);
        command.args(["image", "import", name, path, "--state-dir", &self.path("state")]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{path}: {said}");
        let text = String::from_utf8(output.stdout).unwrap();
        (text.trim().split_once(' ').unwrap().1.into(), said)
    }
}

/// All files of a folder: kind, mode, owner, size, target and path, and what is in them.
fn files(rootfs: &Path) -> String {
    let root = rootfs.to_str().unwrap();
    let list = sh(&["find", root, "-printf", "%y %m %U:%G %n %l %P\\n"]);
    let mut lines: Vec<&str> = list.lines().collect();
    lines.sort_unstable();
    let sums = sh(&["sh", "-c", &format!("cd {root} && find . -type f | sort | xargs sha256sum")]);
    format!("{}\n{sums}", lines.join("\n"))
}

#[test]
fn layouts_of_umoci_and_skopeo_are_imported_with_their_whiteouts() {
    let images = Images { dir: tempfile::tempdir().unwrap() };
    let (layout, tag) = (images.path("layout"), images.path("layout:old"));
    images.put("first/etc/passwd", "root:x:0:0::/:/bin/sh\n");
    images.put("first/bin/app", "#!/bin/sh\n");
    images.put("first/srv/gone/file", "gone");
    images.put("first/srv/stays", "stays");
    images.put("first/opt/dir/one", "one");
    images.put("first/opt/dir/two", "two");
    images.put("changed", "changed");
    images.put("third/three", "three");
    let first = images.path("first");
    sh(&["chmod", "4755", &format!("{first}/bin/app")]);
    sh(&["ln", "-s", "/srv/stays", &format!("{first}/etc/link")]);
    sh(&["ln", &format!("{first}/srv/stays"), &format!("{first}/srv/second-name")]);
    sh(&["chown", "33:34", &format!("{first}/opt/dir/one"), &format!("{first}/srv")]);
    let umoci = |args: &[&str]| sh(&[&["umoci"], args].concat());
    umoci(&["init", "--layout", &layout]);
    umoci(&["new", "--image", &tag]);
    // A layer each.
    umoci(&["insert", "--image", &tag, &first, "/"]);
    umoci(&["insert", "--image", &tag, &images.path("changed"), "/srv/stays"]);
    umoci(&["insert", "--image", &tag, "--whiteout", "/srv/gone"]);
    umoci(&["insert", "--image", &tag, "--opaque", &images.path("third"), "/opt/dir"]);
    let config = ["--config.entrypoint", "/bin/app", "--config.cmd", "serve", "--config.env", "MODE=old"];
    let more = ["--config.workingdir", "/srv", "--config.user", "www-data"];
    umoci(&[&["config", "--image", &tag][..], &config, &more].concat());
    let media = |layout: &str| {
        sh(&["sh", "-c", &format!("cat {layout}/blobs/sha256/* | grep -ao 'layer.v1.tar+[a-z]*' | sort -u")])
    };
    assert_eq!(media(&layout).trim(), "layer.v1.tar+gzip");

    let (image, said) = images.import("gzip", &layout);
    assert!(said.contains("`www-data`"), "{said}");
    let manifest: Value = serde_json::from_slice(&std::fs::read(image.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["init"], json!(["/bin/app", "serve"]));
    assert_eq!(
        (&manifest["workdir"], manifest["environment"].to_string().contains("MODE=old")),
        (&json!("/srv"), true)
    );
    let rootfs = image.join("rootfs");
    let read = |path: &str| std::fs::read_to_string(rootfs.join(path)).ok();
    assert_eq!((read("srv/stays"), read("srv/second-name")), (Some("changed".into()), Some("stays".into())));
    assert_eq!((read("opt/dir/three"), read("etc/passwd").is_some()), (Some("three".into()), true));
    for gone in ["srv/gone", "opt/dir/one", "opt/dir/two"] {
        assert!(!rootfs.join(gone).exists(), "{gone}");
    }
    let all = files(&rootfs);
    assert!(!all.contains(".wh."), "{all}");
    // As containers own them.
    for line in
        ["f 4755 1000000:1000000 1  bin/app", "d 755 1000033:1000034 ", "l 777 1000000:1000000 1 /srv/stays etc/link"]
    {
        assert!(all.contains(line), "{line} in\n{all}");
    }

    // The same, compressed otherwise, and in one file.
    let (zstd, archive) = (images.path("zstd"), images.path("layout.tar"));
    let copy = |args: &[&str]| sh(&[&["skopeo", "--insecure-policy", "copy"], args].concat());
    copy(&["--dest-compress-format", "zstd", &format!("oci:{tag}"), &format!("oci:{zstd}:old")]);
    assert_eq!(media(&zstd).trim(), "layer.v1.tar+zstd");
    copy(&[&format!("oci:{tag}"), &format!("oci-archive:{archive}:old")]);
    for (name, path) in [("zstd", &zstd), ("archive", &archive)] {
        let (image, _) = images.import(name, path);
        assert_eq!(files(&image.join("rootfs")), all, "{name}");
    }
    // A layer that was altered is refused, and nothing is left of the attempt.
    for entry in std::fs::read_dir(format!("{layout}/blobs/sha256")).unwrap().flatten() {
        let mut octets = std::fs::read(entry.path()).unwrap();
        if octets.starts_with(&[0x1f, 0x8b]) {
            octets[20] ^= 1;
            std::fs::write(entry.path(), octets).unwrap();
        }
    }
    let mut command = Command::new(PROGRAM);
    let output =
        command.args(["image", "import", "bad", &layout, "--state-dir", &images.path("state")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("cannot import"), "{said}");
    let left: Vec<_> = std::fs::read_dir(images.path("state/images/bad")).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == ".lock"), "{left:?}");
}
