//! Packages of Python's that are in no distribution, fetched once by the system's own Python.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::lab::state_dir;
use crate::net::sh;

/// Where `packages` are, for `PYTHONPATH`, of which `file` is there if all is. They are kept from run to run: others, or
/// other versions, lie elsewhere.
pub fn packages(file: &str, packages: &[&str]) -> PathBuf {
    static FETCHED: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut fetched = FETCHED.lock().unwrap();
    let name = format!("python-{}", packages.join("+"));
    let fetch = || {
        let dir = state_dir().join(&name);
        if !dir.join(file).exists() {
            let half = state_dir().join(format!("{name}.{}", std::process::id()));
            let install = ["/usr/bin/python3", "-m", "pip", "install", "-q", "--target", half.to_str().unwrap()];
            sh(&[&install[..], packages].concat());
            let renamed = std::fs::rename(&half, &dir);
            if renamed.is_err() {
                // Another run may have been first.
                std::fs::remove_dir_all(&half).unwrap();
            }
            assert!(
                dir.join(file).exists(),
                "{packages:?} are not in {}, or without {file}: {renamed:?}",
                dir.display()
            );
        }
        dir
    };
    fetched.get_or_insert_default().entry(name.clone()).or_insert_with(fetch).clone()
}
