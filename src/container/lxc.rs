//! liblxc, as far as it is needed: the only `unsafe` of this folder.
//!
//! The safe crate around liblxc hands freed strings to it, so this module speaks
//! to the raw bindings. liblxc forks inside its caller and may block for seconds:
//! only a worker process (see [`super::worker`]) may call anything here.

use std::ffi::{CStr, CString, NulError, c_char, c_int};
use std::path::Path;
use std::ptr::NonNull;

/// How often an object of liblxc's is asked for.
const ATTEMPTS: u32 = 3;

/// What liblxc refused.
#[derive(Debug, thiserror::Error)]
pub enum LxcError {
    /// A text for C has a zero octet inside.
    #[error("a zero octet in {0:?}")]
    Nul(String),
    /// No container object.
    #[error("liblxc made no object for container {0}: is its directory writable?")]
    New(String),
    /// A configuration item was not accepted.
    #[error("liblxc {version} does not accept {key} = {value}", version = version())]
    Item {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// The container did not start.
    #[error("liblxc did not start the container (error {0})")]
    Start(i32),
    /// The linked liblxc lacks a function of the interface that it was built for.
    #[error("the installed liblxc lacks {0}")]
    Missing(&'static str),
}

/// A text for C.
fn c_string(text: &str) -> Result<CString, LxcError> {
    CString::new(text).map_err(|_: NulError| LxcError::Nul(text.into()))
}

/// The version of the liblxc that is installed.
pub fn version() -> String {
    // SAFETY: the function takes nothing and returns a static string.
    let text = unsafe { CStr::from_ptr(lxc_sys::lxc_get_version()) };
    text.to_string_lossy().into_owned()
}

/// A container that liblxc knows.
pub struct Container {
    raw: NonNull<lxc_sys::lxc_container>,
}

impl Container {
    /// The container `name` below the absolute path `lxcpath`, whether it runs or not.
    pub fn open(name: &str, lxcpath: &Path) -> Result<Container, LxcError> {
        let (c_name, c_path) = (c_string(name)?, c_string(&lxcpath.to_string_lossy())?);
        // It makes a file for its lock in a directory that it makes, too: another honeynet that ends in between removes
        // directories of locks that are empty.
        for _ in 0..ATTEMPTS {
            // SAFETY: both are zero-terminated and outlive the call; liblxc copies them.
            let raw = unsafe { lxc_sys::lxc_container_new(c_name.as_ptr(), c_path.as_ptr()) };
            if let Some(raw) = NonNull::new(raw) {
                return Ok(Container { raw });
            }
        }
        Err(LxcError::New(name.into()))
    }

    /// Sets one item of the configuration.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), LxcError> {
        let (c_key, c_value) = (c_string(key)?, c_string(value)?);
        // SAFETY: `raw` is valid until `drop`, and nobody else has it.
        let call = unsafe { self.raw.as_ref() }.set_config_item.ok_or(LxcError::Missing("set_config_item"))?;
        // SAFETY: the object is valid; the strings outlive the call and are copied.
        match unsafe { call(self.raw.as_ptr(), c_key.as_ptr(), c_value.as_ptr()) } {
            true => Ok(()),
            false => Err(LxcError::Item { key: key.into(), value: value.into() }),
        }
    }

    /// Starts it with `init` as its first process and returns when that runs. A
    /// monitor process of liblxc's stays behind, as a child of the nearest subreaper.
    pub fn start(&mut self, init: &[String]) -> Result<(), LxcError> {
        let words = init.iter().map(|word| c_string(word)).collect::<Result<Vec<_>, _>>()?;
        let mut argv: Vec<*mut c_char> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
        argv.push(std::ptr::null_mut());
        // SAFETY: `raw` is valid until `drop`, and nobody else has it.
        let object = unsafe { self.raw.as_ref() };
        let daemonize = object.want_daemonize.ok_or(LxcError::Missing("want_daemonize"))?;
        let close = object.want_close_all_fds.ok_or(LxcError::Missing("want_close_all_fds"))?;
        let start = object.start.ok_or(LxcError::Missing("start"))?;
        // SAFETY: the object is valid, and `argv` and what it points to live until
        // the call returns; liblxc does not write to the words.
        let started = unsafe {
            daemonize(self.raw.as_ptr(), true);
            close(self.raw.as_ptr(), true);
            start(self.raw.as_ptr(), 0 as c_int, argv.as_ptr())
        };
        match started {
            true => Ok(()),
            // SAFETY: the object is valid.
            false => Err(LxcError::Start(unsafe { self.raw.as_ref() }.error_num)),
        }
    }

    /// The process id of its init, if it runs.
    pub fn init_pid(&self) -> Option<i32> {
        // SAFETY: `raw` is valid until `drop`.
        let call = unsafe { self.raw.as_ref() }.init_pid?;
        // SAFETY: the object is valid.
        let pid = unsafe { call(self.raw.as_ptr()) };
        (pid > 0).then_some(pid)
    }

    /// Kills everything in it. Returns whether liblxc could.
    pub fn stop(&mut self) -> bool {
        // SAFETY: `raw` is valid until `drop`.
        let Some(call) = (unsafe { self.raw.as_ref() }).stop else { return false };
        // SAFETY: the object is valid.
        unsafe { call(self.raw.as_ptr()) }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // SAFETY: the object came from `lxc_container_new` and is not used again.
        unsafe { lxc_sys::lxc_container_put(self.raw.as_ptr()) };
    }
}
