//! Disks that take their time.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::*;
use crate::control::console::sinks::file::SinkFile;
use crate::control::console::tests::plan;
use crate::record::sink::{Format, SINKS, Select, Target};
use crate::sys::eventfd::EventFd;

fn delivery(dir: &Path) -> Delivery {
    let sink = SinkConfig {
        name: "siem".into(),
        format: Format::Ndjson,
        to: Target::File("out.json".into()),
        events: Select::new(["icmp.echo"]).unwrap(),
        facility: 16,
    };
    let origin = Origin { honeynet: "hwt".into(), host: "here".into(), facility: 16 };
    let shared = Arc::new(Shared::new(&plan(vec![])));
    let (stop, to_recorder) = (watch::channel(false).1, ToRecorder::new(EventFd::new().unwrap()).0);
    let cursor = Cursor::open(dir, "siem", 1).unwrap();
    Delivery::new(sink, origin, cursor, dir, (shared.newest(), stop), shared, to_recorder)
}

#[test]
fn a_disk_that_takes_its_time_holds_up_nobody_and_has_it_before_that_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let mut delivery = delivery(dir.path());
    let file = Arc::new(Mutex::new(SinkFile::open(&dir.path().join("out.json")).unwrap()));
    let mut wire = Wire::File(file.clone());
    let (seq, is_written) = (
        || Cursor::open(dir.path(), "siem", 100).unwrap().seq(),
        || std::fs::read_to_string(dir.path().join("out.json")).unwrap() == "a\n",
    );
    delivery.cursor.done(9, 1, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The disk is at work while somebody has the file.
    let (begun, begins) = channel();
    let (over, is_over) = channel::<()>();
    std::thread::scope(|scope| {
        let held = file.clone();
        scope.spawn(move || {
            let _held = held.lock().unwrap();
            begun.send(()).unwrap();
            let _ = is_over.recv();
        });
        begins.recv().unwrap();
        runtime.block_on(async {
            let work = async {
                delivery.is_unsynced = true;
                wire.send(&[b"a\n".to_vec()]).await.unwrap();
                delivery.sync(&wire).await;
                delivery.save().await;
            };
            tokio::pin!(work);
            tokio::select! {
                biased;
                () = &mut work => panic!("it has not waited for the disk"),
                // It is another sink's turn.
                () = tokio::time::sleep(Duration::from_millis(30)) => {}
            }
            assert!(!is_written() && seq() == 99, "nothing was written down");
            drop(over);
            work.await;
        });
    });
    assert!(is_written());
    assert_eq!(seq(), 9);
}

#[test]
fn what_the_disk_may_not_have_is_not_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let mut delivery = delivery(dir.path());
    delivery.cursor.done(9, 1, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        delivery.is_unsynced = true;
        delivery.save().await;
        assert!(!dir.path().join("siem.cursor").exists());
        // Another save goes on, though nobody waits for it.
        let first = delivery.saving.clone().lock_owned().await;
        delivery.is_unsynced = false;
        {
            let save = delivery.save();
            tokio::pin!(save);
            tokio::select! {
                biased;
                () = &mut save => panic!("two write at a time"),
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
            drop(first);
            save.await;
        }
        assert_eq!(Cursor::open(dir.path(), "siem", 100).unwrap().seq(), 9);
    });
}

#[test]
fn a_file_is_opened_once_however_long_that_takes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join(SINKS)).unwrap();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).max_blocking_threads(1).build().unwrap();
    let to = Target::File("out.json".into());
    // The disk is at work while the one thread that may wait for it is.
    let (over, is_over) = channel::<()>();
    runtime.block_on(async {
        let _at_work = tokio::task::spawn_blocking(move || is_over.recv());
        let connect = Wire::connect(&to, dir.path());
        tokio::pin!(connect);
        for wait in [Duration::ZERO, Duration::from_secs(3600)] {
            tokio::time::advance(wait).await;
            tokio::select! {
                biased;
                opened = &mut connect => panic!("it has not waited: {:?}", opened.err()),
                () = std::future::ready(()) => {}
            }
        }
        drop(over);
        assert!(matches!(connect.await, Ok(Wire::File(_))));
    });
}
