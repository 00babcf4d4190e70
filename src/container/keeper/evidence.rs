//! What somebody changed in a container is taken before its files go: by an inspector of its own, few at once, each with
//! a deadline. Whatever becomes of that, the files go in the end, nobody else waits for it, and it is told.

use std::fs;
use std::path::PathBuf;

use super::disk;
use super::kept;
use super::lease::{Container, Lease, Rest, Stage};
use super::leases::WATCH;
use super::process::{Keeper, SECOND};
use super::settings;
use super::used::Used;
use crate::container::inspector::{
    Answer, CRASHED, Contents, Directories, Inspector, Job, Limits, Occasion, Taken, archive,
};
use crate::container::{Answered, KeeperSays};
use crate::event::{Event, EventId, MAX_DATA, Said, Utc};
use crate::sys::clock;
use crate::wire::Instant;

/// What an inspector may take, and the octets of a disk for which it may take a second more: those of a slow one.
const PATIENCE: i64 = 30 * SECOND;
/// How long of that is not for reading, but for what has to be written then.
const WRITING: i64 = 15 * SECOND;
const OCTETS_A_SECOND: u64 = 16 << 20;
/// What one that was killed may take to end. One that waits for a disk that does not answer cannot even be killed.
const DEATH: i64 = 5 * SECOND;
/// For so many starts at once, one is inspected.
const STARTS: usize = 4;
/// Looked at by hand at once.
const LOOKS: usize = 4;
/// How long a container rests at most because somebody at the machine looks at it.
const PAUSE: i64 = 5 * SECOND;
/// Changes of a container that are listed by hand.
const LISTED: usize = 20_000;
/// Characters of what an inspector says of its failure.
pub(super) const SENTENCE: usize = 300;

/// Somebody at the machine looks at what was changed in a container.
#[derive(Debug)]
pub struct Look {
    inspector: Inspector,
    /// The console's name for the order.
    order: u64,
    /// When the container goes on, if it rests for this.
    thaw_at: Option<i64>,
}

impl Look {
    /// Whether process `pid` is its inspector.
    pub fn is_process(&self, pid: i32) -> bool {
        self.inspector.pid == pid
    }

    /// When there is something to do about it.
    pub fn deadline(&self) -> i64 {
        self.thaw_at.unwrap_or(i64::MAX).min(self.inspector.deadline)
    }
}

pub(super) fn utc() -> Utc {
    Utc::from_micros(clock::realtime_micros())
}

pub(super) fn job(keeper: &Keeper, container: &Container, used: &Used, now: Utc) -> Job {
    Job {
        directories: Directories {
            upper: container.place.upper(),
            lower: container.image.rootfs(),
            evidence: keeper.evidence(),
        },
        number: container.place.number,
        now,
        leased: used.leased.clone().masked(&keeper.config.mask()),
        prepared: Some(used.prepared),
        late: used.late.clone(),
        contents: if used.only_list { Contents::Samples } else { Contents::All },
        list: false,
        note: None,
        limits: Limits {
            read_secs: ((patience(container) - WRITING) / SECOND).unsigned_abs(),
            ..keeper.evidence_limits()
        },
    }
}

fn patience(container: &Container) -> i64 {
    PATIENCE + (disk::used(&container.place.dir) / OCTETS_A_SECOND).min(3600) as i64 * SECOND
}

impl Keeper {
    /// Where evidence lies.
    pub(super) fn evidence(&self) -> PathBuf {
        self.config.evidence_dir()
    }

    /// Writes down that container `number` is that lease's from now on.
    pub(super) fn handed(&mut self, number: u32, lease: Lease) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let is_live = matches!(container.stage, Stage::Live(_));
        match &mut container.used {
            Some(used) => used.again(&lease, utc()),
            none => *none = Used::first(&self.config, container.place.name.clone(), &container.image, lease, utc()),
        }
        if let Some(used) = &mut container.used {
            used.ran |= is_live;
        }
    }

    /// Has what was changed in container `number` taken, if anybody had it, and then its files removed.
    pub(super) fn dispose(&mut self, number: u32, now: i64) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        if !container.used.as_ref().is_some_and(|used| used.ran) {
            return self.remove(number, now);
        }
        if let Err(error) = settings::rest(&container.place) {
            tracing::warn!(%error, container = container.place.name, "what was mounted for a container that ends stays");
        }
        container.stage = Stage::Inspecting(None);
        // A listing that is being made would tell the same as what is taken now.
        container.listed.kill();
        conclude(container);
        // Its host may have another one.
        self.gone(number);
    }

    /// Starts inspectors for those that wait for one.
    pub(super) fn inspect_queued(&mut self, now: i64) {
        let mut room = (self.starts_at_once / STARTS).max(1);
        let mut waiting = Vec::new();
        for (number, container) in &self.containers {
            match container.stage {
                Stage::Inspecting(Some(_)) => room = room.saturating_sub(1),
                Stage::Inspecting(None) => waiting.push(*number),
                _ => {}
            }
        }
        for number in waiting {
            if room == 0 {
                return;
            }
            room -= usize::from(self.inspect(number, now));
        }
    }

    /// Whether an inspector works on it now.
    fn inspect(&mut self, number: u32, now: i64) -> bool {
        let Some(container) = self.containers.get(&number) else { return false };
        let (Stage::Inspecting(None), Some(used)) = (&container.stage, &container.used) else { return false };
        let taken = used.taken.unwrap_or_else(utc);
        // One that died, with its keeper or alone, may have done all but say so.
        let name = format!("{}{}", archive::stem(taken, used.leased.host, number), archive::ENDING);
        if fs::symlink_metadata(self.evidence().join(&name)).is_ok_and(|meta| meta.is_file()) {
            self.tell_of(EventId::EvidenceTaken, number, (&name, "found finished"), 1, now);
            self.taken(number, name, now);
            return false;
        }
        let note = Some(self.note(container, Occasion::Ended));
        let job = Job { note, ..job(self, container, used, taken) };
        match Inspector::start(&self.worker, &job, now + patience(container)) {
            Ok(inspector) => {
                if let Some(container) = self.containers.get_mut(&number) {
                    container.stage = Stage::Inspecting(Some(inspector));
                }
                true
            }
            Err(error) => {
                self.not_taken(number, &error.to_string(), true, now);
                self.inspect(number, now)
            }
        }
    }

    /// The inspector of container `number` has ended.
    pub(super) fn inspected(&mut self, number: u32, inspector: Inspector, now: i64) {
        let in_time = !inspector.killed;
        match inspector.answer() {
            Answer::Taken(taken) if self.is_its(number, &taken) => {
                self.tell_taken(number, &taken, "", now);
                self.taken(number, taken.archive, now);
            }
            Answer::Failed(why) => self.not_taken(number, &why, in_time, now),
            _ => self.not_taken(number, "the inspector answered something else", in_time, now),
        }
    }

    /// Whether `taken` is about an archive of container `number`. Inspectors are near what attackers leave.
    fn is_its(&self, number: u32, taken: &Taken) -> bool {
        let used = self.containers.get(&number).and_then(|container| container.used.as_ref());
        let of = archive::host_of(&taken.archive)
            .map(|(host, of)| (host, of.split('.').next() == Some(&number.to_string())));
        used.is_some_and(|used| of == Some((used.leased.host, true)))
    }

    fn taken(&mut self, number: u32, archive: String, now: i64) {
        if let Some(used) = self.containers.get_mut(&number).and_then(|container| container.used.as_mut()) {
            used.archive = Some(archive);
        }
        self.remove(number, now);
    }

    /// What was changed in container `number` was not taken. It is tried again if that may help, or a list is made, which
    /// takes less room; then its files go all the same.
    fn not_taken(&mut self, number: u32, why: &str, in_time: bool, now: i64) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        container.stage = Stage::Inspecting(None);
        let Some(used) = &mut container.used else { return };
        used.tries += 1;
        let crashed = why == CRASHED && used.tries == 1;
        let next = match () {
            () if !in_time || used.only_list => "what was changed in it is lost",
            () if crashed => "another one tries",
            () => "what was changed in it is listed, without contents",
        };
        let lost = !in_time || used.only_list;
        used.only_list = !crashed;
        let why: String = why.chars().take(SENTENCE).collect();
        let (node, host) = (used.leased.node.clone(), used.leased.host);
        tracing::error!(node, %host, why, "no evidence of a container: {next}");
        self.tell_of(EventId::EvidenceFailed, number, ("", &format!("{why}; {next}")), 1, now);
        if lost {
            self.remove(number, now);
        }
    }

    /// Looks at container `number` for who gave `order`, who is answered when that is done: lists what was changed, or
    /// takes it while its processes rest.
    ///
    /// # Errors
    /// A sentence that says why it cannot be looked at.
    pub(super) fn look(&mut self, order: u64, number: u32, list: bool, now: i64) -> Result<(), String> {
        if self.containers.values().filter(|container| container.look.is_some()).count() >= LOOKS {
            return Err("several containers are being looked at; try again".into());
        }
        let Some(container) = self.containers.get(&number) else {
            return Err(format!("there is no container {number}"));
        };
        let Some(used) = &container.used else { return Err("nobody has had it yet".into()) };
        if container.look.is_some() {
            return Err("it is being looked at already".into());
        }
        let moves = match &container.stage {
            Stage::Live(running) => running.rest != Rest::Frozen,
            Stage::Kept { .. } => false,
            Stage::Queued(_) | Stage::Starting(_) => return Err("it has not started yet".into()),
            _ => return Err("it ends already, and what was changed in it is taken".into()),
        };
        let taken = used.free_second(utc());
        let mut job = Job { list, contents: Contents::All, ..job(self, container, used, taken) };
        if list {
            job.limits = Limits { changes: LISTED, ..job.limits };
        }
        let deadline = now + patience(container);
        let name = container.place.name.clone();
        // Without a freezer it goes on, and what changes meanwhile is said to.
        let rests = moves && !list && self.layout.freeze(&name, true).is_ok();
        let inspector = Inspector::start(&self.worker, &job, deadline).map_err(|error| {
            if rests {
                let _ = self.layout.freeze(&name, false);
            }
            format!("no inspector can be started: {error}")
        })?;
        let Some(container) = self.containers.get_mut(&number) else { return Err("it is gone".into()) };
        if let (Some(used), false) = (&mut container.used, list) {
            used.seen = Some(taken);
        }
        let thaw_at = rests.then_some(now + PAUSE);
        container.look = Some(Look { inspector, order, thaw_at });
        if let (true, Stage::Live(running)) = (rests, &mut container.stage)
            && let Rest::Watched { until, .. } = &mut running.rest
        {
            // Whoever rests for this has not shown yet that it has nothing to do.
            *until = now + PAUSE + WATCH;
        }
        Ok(())
    }

    /// The inspector by which somebody looked at container `number` has ended.
    pub(super) fn looked(&mut self, number: u32, now: i64) {
        self.go_on(number);
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Some(Look { inspector, order, .. }) = container.look.take() else { return };
        if let Some(memory) = inspector.list() {
            let answer = KeeperSays::Answer { id: order, answer: Ok(Answered::Changes) };
            self.answer(&answer, Some(memory));
            return;
        }
        let answer = match inspector.answer() {
            Answer::Taken(taken) if self.is_its(number, &taken) => {
                self.tell_taken(number, &taken, "by hand", now);
                Ok(Answered::Taken(taken))
            }
            Answer::Failed(why) => Err(why.chars().take(SENTENCE).collect()),
            _ => Err("the inspector answered something else".into()),
        };
        self.answer(&KeeperSays::Answer { id: order, answer }, None);
    }

    /// Has container `number` go on if it rests for who looks at it.
    fn go_on(&mut self, number: u32) {
        let Some(container) = self.containers.get_mut(&number) else { return };
        let Some(look) = &mut container.look else { return };
        let rests = look.thaw_at.take().is_some();
        // Meanwhile it may have been frozen for another reason, or have ended.
        let is_awake = matches!(&container.stage, Stage::Live(running) if running.rest != Rest::Frozen);
        if rests
            && is_awake
            && let Err(error) = self.layout.freeze(&container.place.name, false)
        {
            tracing::error!(%error, container = container.place.name, "a container that was looked at cannot be thawed");
        }
    }

    /// Whoever looks at container `number`, which is gone, looks in vain.
    pub(super) fn look_in_vain(&self, look: Option<Look>) {
        let Some(mut look) = look else { return };
        look.inspector.kill();
        let answer = KeeperSays::Answer { id: look.order, answer: Err("it has ended meanwhile".into()) };
        self.answer(&answer, None);
    }

    /// Whether process `pid`, which has ended, was an inspector of a container that was looked at or listed.
    pub(super) fn looker_ended(&mut self, pid: i32, now: i64) -> bool {
        let looks = |container: &Container| container.look.as_ref().is_some_and(|look| look.is_process(pid));
        let found = |is_it: &dyn Fn(&Container) -> bool| {
            self.containers.iter().find_map(|(number, container)| is_it(container).then_some(*number))
        };
        if let Some(number) = found(&looks) {
            self.looked(number, now);
            return true;
        }
        let Some(number) = found(&|container| container.listed.is_process(pid)) else { return false };
        self.noted(number, now);
        true
    }

    /// Ends inspectors that take too long.
    pub(super) fn expire_inspectors(&mut self, now: i64) {
        self.expire_listings(now);
        let is_due = |container: &Container| match &container.stage {
            Stage::Inspecting(Some(inspector)) => inspector.deadline <= now,
            _ => false,
        } || container.look.as_ref().is_some_and(|look| look.deadline() <= now);
        let due: Vec<u32> =
            self.containers.iter().filter(|(_, container)| is_due(container)).map(|(number, _)| *number).collect();
        for number in due {
            let Some(container) = self.containers.get_mut(&number) else { continue };
            let hangs = match &mut container.stage {
                Stage::Inspecting(Some(inspector)) => is_over(inspector, now),
                _ => false,
            };
            let look = container.look.as_mut();
            let (pause_is_over, look_hangs) = look.map_or((false, false), |look| {
                (look.thaw_at.is_some_and(|at| at <= now), is_over(&mut look.inspector, now))
            });
            if pause_is_over {
                self.go_on(number);
            }
            if look_hangs {
                self.looked(number, now);
            }
            if hangs {
                self.not_taken(number, "the inspector does not even end when it is killed", false, now);
            }
        }
    }

    /// The keeper is about to end: what was not looked at yet stays on the disk, for the next one. With `all`, that is
    /// whatever is there but what is being removed already.
    pub(super) fn leave_uninspected(&mut self, all: bool) {
        let mut left = 0;
        let leaves = |container: &mut Container| match &container.stage {
            Stage::Inspecting(_) => true,
            Stage::Removing(_) => false,
            _ => all && container.used.as_ref().is_some_and(|used| used.ran),
        };
        for (_, mut container) in self.containers.extract_if(.., |_, container| leaves(container)) {
            if let Stage::Inspecting(Some(inspector)) = &mut container.stage {
                inspector.kill();
            }
            container.listed.kill();
            conclude(&mut container);
            let rested = settings::rest(&container.place).and_then(|()| disk::rest(&container.place.dir));
            if let Err(error) = rested {
                tracing::warn!(%error, dir = %container.place.dir.display(), "the disk of a container stays mounted");
            }
            left += 1;
        }
        if left > 0 {
            tracing::warn!(
                "evidence of {left} containers could not be taken in time: the next `honeyweave up` of this honeynet does that"
            );
        }
    }

    fn tell_taken(&self, number: u32, taken: &Taken, how: &str, now: i64) {
        let counts = &taken.counts;
        let changes = counts.added.saturating_add(counts.changed).saturating_add(counts.deleted);
        self.tell_of(EventId::EvidenceTaken, number, (&taken.archive, how), changes, now);
        if let Some(why) = &taken.unlisted {
            let why: String = why.chars().take(SENTENCE).collect();
            tracing::warn!(why, "no listing lies beside an archive, so what its last visitor did is not told apart");
        }
        self.tell_pruned(number, taken, now);
    }

    /// Tells what went as it was too old or too much.
    pub(super) fn tell_pruned(&self, number: u32, taken: &Taken, now: i64) {
        let listings = taken.removed_listings;
        let gone = taken.removed_archives.saturating_add(taken.removed_samples).saturating_add(listings);
        if gone > 0 {
            let (archives, samples, octets) = (taken.removed_archives, taken.removed_samples, taken.removed_octets);
            let first = taken.removed.first().filter(|name| archive::is_archive(name));
            let first = first.map(|name| format!(", {name} first")).unwrap_or_default();
            let why = format!(
                "{archives} archives, {listings} listings and {samples} samples with {octets} octets were too old or too much{first}"
            );
            self.tell_of(EventId::EvidenceDeleted, number, ("", &why), gone, now);
        }
        if let Some(why) = &taken.retention_failed {
            let why: String = why.chars().take(SENTENCE).collect();
            tracing::warn!(why, "old evidence cannot be looked through, so it stays");
        }
    }

    /// Tells the console of something that concerns container `number`: the name of an archive, if there is one, and a
    /// sentence.
    pub(super) fn tell_of(&self, id: EventId, number: u32, (archive, why): (&str, &str), count: u64, now: i64) {
        if let Some(container) = self.containers.get(&number) {
            self.tell_of_container(id, container, (archive, why), count, now);
        }
    }

    /// The same of one that is not among the others.
    pub(super) fn tell_of_container(
        &self,
        id: EventId,
        container: &Container,
        (archive, why): (&str, &str),
        count: u64,
        now: i64,
    ) {
        let used = container.used.as_ref();
        let mut event = Event::new(id, Instant::from_micros(now));
        event.node = container.host.map_or(Event::NO_NODE, |(node, _)| node.0);
        event.src.ip = container.attacker.into();
        event.dst.ip = container.host.map(|(_, host)| host).or(used.map(|used| used.leased.host)).into();
        event.session = used.map(Used::session).unwrap_or_default();
        event.count = count;
        let mut data = format!("{archive}\0{}", why.replace('\0', " ")).into_bytes();
        data.truncate(MAX_DATA);
        self.answer(&KeeperSays::Said(Said { event, data }), None);
    }
}

/// Whether `inspector` is beyond help: it was killed for taking too long, and that has not helped either.
pub(super) fn is_over(inspector: &mut Inspector, now: i64) -> bool {
    let due = inspector.deadline <= now;
    if due && !inspector.killed {
        inspector.kill();
        inspector.deadline = now + DEATH;
        return false;
    }
    due
}

/// Writes down that `container` ends, so that whoever goes on with that knows.
fn conclude(container: &mut Container) {
    let why = container.why.clone().unwrap_or_default();
    let Some(used) = &mut container.used else { return };
    used.conclude(&why, utc());
    if let Err(error) = kept::write(container) {
        tracing::warn!(%error, dir = %container.place.dir.display(), "that a container ends cannot be written down");
    }
}
