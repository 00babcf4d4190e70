use std::fs;

use super::*;

fn config(recipe: &str) -> ImageConfig {
    ImageConfig { name: "x".into(), recipe: recipe.into(), ..ImageConfig::default() }
}

/// A recipe in a folder of its own.
fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, ImageConfig) {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let config = config(dir.path().to_str().unwrap());
    (dir, config)
}

#[test]
fn built_in_recipes_are_complete() {
    for name in RECIPES {
        let recipe = Recipe::of(&config(name)).unwrap();
        assert_eq!(recipe.recipe, name);
        assert!(!recipe.about.is_empty() && !recipe.services.is_empty(), "{name}");
        assert!(recipe.users.iter().any(|user| user.name == "root"), "{name}");
        assert!(recipe.tasks.len() >= 2, "{name}");
        let inittab = recipe.files.iter().find(|file| file.path == "etc/inittab").unwrap();
        assert!(String::from_utf8_lossy(&inittab.content).contains("::respawn:/"), "{name}");
    }
    assert!(matches!(Recipe::of(&config("big")), Err(ImageError::UnknownRecipe { .. })));
}

#[test]
fn tasks_run_in_the_order_of_their_names() {
    let (_dir, config) = folder(&[
        ("recipe.yaml", "name: mine"),
        ("tasks/20-b.sh", "echo b"),
        ("tasks/05-a.sh", "echo a"),
        ("tasks/99-clean.sh", "echo mine"),
        ("README.md", "about it"),
    ]);
    let recipe = Recipe::of(&config).unwrap();
    let names: Vec<&str> = recipe.tasks.iter().map(|task| task.name.as_str()).collect();
    assert_eq!(names, ["00-accounts.sh", "05-a.sh", "20-b.sh", "99-clean.sh"]);
    // A recipe's own takes the place of the method's.
    assert_eq!(recipe.tasks[3].script, b"echo mine");
}

#[test]
fn files_come_with_modes_and_the_recipe_wins() {
    let (_dir, config) = folder(&[
        ("recipe.yaml", "{name: mine, method: unpack, files: [{path: /etc/x, content: in the yaml, mode: 0o600}]}"),
        ("files/etc/x", "in a file"),
        ("files/etc/shells", "/bin/zsh"),
        ("files/srv/run", "#!/bin/sh\n"),
    ]);
    let recipe = Recipe::of(&config).unwrap();
    let file = |path: &str| recipe.files.iter().find(|file| file.path == path).unwrap();
    assert_eq!((file("etc/x").content.as_slice(), file("etc/x").mode), (&b"in the yaml"[..], 0o600));
    assert_eq!(file("etc/shells").content, b"/bin/zsh");
    assert_eq!((file("srv/run").mode, file("etc/passwd").mode), (0o755, 0o644));
    assert_eq!(recipe.files.iter().filter(|file| file.path == "etc/shells").count(), 1);
}

#[test]
fn services_become_what_init_starts() {
    let yaml = "
        name: mine
        boot: [/bin/mkdir -p /run/x]
        services:
          - {name: http, port: 80, run: /bin/httpd -f}
          - {name: dns, port: 53, proto: udp}";
    let (_dir, config) = folder(&[("recipe.yaml", yaml)]);
    let recipe = Recipe::of(&config).unwrap();
    let inittab = recipe.files.iter().find(|file| file.path == "etc/inittab").unwrap();
    assert_eq!(inittab.content, b"::sysinit:/bin/mkdir -p /run/x\n::respawn:/bin/httpd -f\n");
    assert_eq!((recipe.services[0].proto, recipe.services[1].proto), (Proto::Tcp, Proto::Udp));
}

#[test]
fn the_hash_stands_for_what_goes_in() {
    let plain = hash_of(&config("small")).unwrap();
    assert_eq!(plain, Recipe::of(&config("small")).unwrap().hash);
    assert_eq!(plain, hash_of(&ImageConfig { name: "other".into(), ..config("small") }).unwrap());
    let packages = ImageConfig { packages: vec!["nmap".into()], ..config("small") };
    let user = ImageUser { name: "root".into(), password: "hunter2".into() };
    let users = ImageConfig { users: vec![user], ..config("small") };
    let all = [plain, hash_of(&packages).unwrap(), hash_of(&users).unwrap()];
    assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2], "{all:?}");
}

#[test]
fn every_file_of_a_folder_counts() {
    let (dir, config) = folder(&[("recipe.yaml", "name: mine"), ("tasks/10-a.sh", "true"), ("files/etc/x", "1")]);
    let mut hashes = vec![Recipe::of(&config).unwrap().hash];
    let mut changed = |name: &str, content: Option<&str>| {
        match content {
            Some(content) => fs::write(dir.path().join(name), content).unwrap(),
            None => fs::remove_file(dir.path().join(name)).unwrap(),
        }
        let hash = Recipe::of(&config).unwrap().hash;
        assert!(!hashes.contains(&hash), "{name}");
        hashes.push(hash);
    };
    changed("tasks/20-b.sh", Some("true"));
    changed("tasks/10-a.sh", Some("false"));
    changed("files/etc/x", Some("2"));
    changed("files/etc/y", Some("2"));
    changed("files/etc/x", None);
    changed("tasks/10-a.sh", None);
    // The plan's word counts where there is one.
    let planned = ImageConfig { hash: Some("of before".into()), ..config.clone() };
    assert_eq!(hash_of(&planned).unwrap(), "of before");
}

#[test]
fn an_account_of_the_topology_wins() {
    let root = ImageUser { name: "root".into(), password: "hunter2".into() };
    let recipe = Recipe::of(&ImageConfig { users: vec![root.clone()], ..config("small") }).unwrap();
    assert_eq!(recipe.users, [root]);
}

#[test]
fn mistakes_are_told() {
    for (files, why) in [
        (vec![("tasks/10-a.sh", "")], "it has no recipe.yaml"),
        (vec![("recipe.yaml", "nmae: x")], "nmae"),
        (vec![("recipe.yaml", "name: X")], "lower-case letters"),
        (vec![("recipe.yaml", "{name: x, packages: [--force]}")], "no name of a Debian package"),
        (vec![("recipe.yaml", "{name: x, users: [{name: a, password: 'b:c'}]}")], "password of `a`"),
        (vec![("recipe.yaml", "{name: x, users: [{name: ../a, password: b}]}")], "no log-in name"),
        (vec![("recipe.yaml", "{name: x, services: [{name: http, port: 0}]}")], "port 0"),
        (vec![("recipe.yaml", "{name: x, services: [{name: http, port: 1, run: httpd}]}")], "absolute path"),
        (vec![("recipe.yaml", "{name: x, boot: [\"/bin/a\\n::respawn:/bin/b\"]}")], "one line"),
        (vec![("recipe.yaml", "{name: x, decoys: [{path: /a/../../b, content: c}]}")], "without `..`"),
        (vec![("recipe.yaml", "{name: x, init: []}")], "`init` is a list"),
        (vec![("recipe.yaml", "name: x"), ("tasks/a.sh", "")], "two digits"),
        (vec![("recipe.yaml", "name: x"), ("file/etc/x", "")], "neither in tasks/ nor in files/"),
    ] {
        let (_dir, config) = folder(&files);
        let error = Recipe::of(&config).unwrap_err().to_string();
        assert!(error.contains(why), "{error}, not {why}");
    }
}
