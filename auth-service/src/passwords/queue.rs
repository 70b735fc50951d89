//! The order in which passwords are hashed: fair between client addresses, with a share for each kind of work.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    time::Duration,
};

use access::{ClientPresence, KeyCounts};
use argon2::Block;
use tokio::time::Instant;

/// The number of hashes of one kind that may wait for a thread.
pub(super) const QUEUE_LENGTH: usize = 64;
/// The waiting time from which on the newest job is run first. Under overload the oldest jobs would otherwise be run shortly before
/// their clients give up, and most of the results would reach nobody.
const PATIENCE: Duration = Duration::from_secs(1);

/// The kind of work that a hash is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashPurpose {
    /// A Login.
    Login,
    /// A Register.
    Registration,
    /// A change of a password, or a user whom an administrator creates.
    PasswordChange,
}

impl HashPurpose {
    /// Returns the name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Registration => "registration",
            Self::PasswordChange => "password_change",
        }
    }
}

/// The use of the slots of one purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LaneUse {
    /// The hashes that wait for a thread.
    pub(crate) waiting: usize,
    /// The slots that a client may still reserve.
    pub(crate) free_slots: usize,
    /// The reservations that were refused.
    pub(crate) refused: u64,
}

/// The order of the purposes. A purpose without work is skipped, so Login gets at least every second hash, and the others at least
/// every fourth.
const TURNS: [HashPurpose; 4] = [HashPurpose::Login, HashPurpose::Registration, HashPurpose::Login, HashPurpose::PasswordChange];

/// The key of a client in the queue: its address as rate limits count it, or `None` if it is unknown.
pub(super) type ClientKey = Option<IpAddr>;

/// The computation of a hash in the memory of its thread.
pub(super) type Work = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

/// A hash to compute.
pub(super) struct Job {
    pub(super) run: Work,
    pub(super) presence: ClientPresence,
    pub(super) since: Instant,
}

/// Jobs and reserved slots, by purpose and client.
pub(super) struct FairQueue {
    lanes: [Lane; 3],
    turn: usize,
}

/// The slots and jobs of one purpose.
struct Lane {
    /// The number of reservations that were refused.
    refused: u64,
    free_slots: usize,
    /// The number of slots that each client holds: reserved, waiting or running.
    held_slots: KeyCounts<ClientKey>,
    /// The clients with waiting jobs, in the order of their turns.
    rotation: VecDeque<ClientKey>,
    waiting: HashMap<ClientKey, VecDeque<Job>>,
}

impl FairQueue {
    /// Creates a queue for this number of threads.
    pub(super) fn new(threads: usize) -> Self {
        let lane = || Lane {
            refused: 0,
            free_slots: threads + QUEUE_LENGTH,
            held_slots: KeyCounts::default(),
            rotation: VecDeque::new(),
            waiting: HashMap::new(),
        };
        Self { lanes: [lane(), lane(), lane()], turn: 0 }
    }

    /// Reserves a slot. Returns false if the client holds as many slots as are free: so one client gets at most half of the slots, and
    /// each of several at most an equal part, with room for another one.
    pub(super) fn reserve(&mut self, purpose: HashPurpose, client: ClientKey) -> bool {
        let lane = self.lane(purpose);
        let is_free = lane.held_slots.add(client, lane.free_slots);
        if is_free {
            lane.free_slots -= 1;
        }
        is_free
    }

    /// Counts a reservation that was refused.
    pub(super) fn count_refusal(&mut self, purpose: HashPurpose) {
        self.lane(purpose).refused += 1;
    }

    /// Returns the use of each purpose.
    pub(super) fn usage(&self) -> [(HashPurpose, LaneUse); 3] {
        let usage = |lane: &Lane| LaneUse {
            waiting: lane.waiting.values().map(VecDeque::len).sum(),
            free_slots: lane.free_slots,
            refused: lane.refused,
        };
        let [login, registration, change] = &self.lanes;
        [
            (HashPurpose::Login, usage(login)),
            (HashPurpose::Registration, usage(registration)),
            (HashPurpose::PasswordChange, usage(change)),
        ]
    }

    /// Releases a slot.
    pub(super) fn release(&mut self, purpose: HashPurpose, client: ClientKey) {
        let lane = self.lane(purpose);
        lane.free_slots += 1;
        lane.held_slots.remove(&client);
    }

    /// Adds a job, for which the client has reserved a slot.
    pub(super) fn push(&mut self, purpose: HashPurpose, client: ClientKey, job: Job) {
        let lane = self.lane(purpose);
        let jobs = lane.waiting.entry(client).or_default();
        if jobs.is_empty() {
            lane.rotation.push_back(client);
        }
        jobs.push_back(job);
    }

    /// Takes the next job.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Job> {
        (0..TURNS.len()).find_map(|_| {
            let purpose = TURNS[self.turn];
            self.turn = (self.turn + 1) % TURNS.len();
            self.lane(purpose).pop(now)
        })
    }

    /// Removes the jobs whose clients have left. The caller drops them after it has unlocked the queue, because that releases slots.
    #[must_use]
    pub(super) fn remove_abandoned(&mut self) -> Vec<Job> {
        self.lanes.iter_mut().flat_map(Lane::remove_abandoned).collect()
    }

    fn lane(&mut self, purpose: HashPurpose) -> &mut Lane {
        &mut self.lanes[match purpose {
            HashPurpose::Login => 0,
            HashPurpose::Registration => 1,
            HashPurpose::PasswordChange => 2,
        }]
    }
}

impl Lane {
    /// Takes a job of the client whose turn it is. The clients take turns from the front of the rotation or, once the oldest job there
    /// has waited for too long, from its back, where new clients are added. Either way, a client that has had its turn comes last.
    fn pop(&mut self, now: Instant) -> Option<Job> {
        let first = *self.rotation.front()?;
        let oldest = self.waiting.get(&first).and_then(VecDeque::front);
        let is_late = oldest.is_some_and(|job| now.duration_since(job.since) > PATIENCE);
        let client = if is_late { self.rotation.pop_back() } else { self.rotation.pop_front() }?;
        let jobs = self.waiting.get_mut(&client)?;
        let job = if is_late { jobs.pop_back() } else { jobs.pop_front() };
        match (jobs.is_empty(), is_late) {
            (true, _) => drop(self.waiting.remove(&client)),
            (false, true) => self.rotation.push_front(client),
            (false, false) => self.rotation.push_back(client),
        }
        job
    }

    fn remove_abandoned(&mut self) -> Vec<Job> {
        let mut abandoned = Vec::new();
        for jobs in self.waiting.values_mut() {
            if jobs.iter().any(|job| job.presence.has_left()) {
                let (left, present) = std::mem::take(jobs).into_iter().partition(|job| job.presence.has_left());
                *jobs = present;
                abandoned.extend::<VecDeque<Job>>(left);
            }
        }
        if !abandoned.is_empty() {
            self.waiting.retain(|_, jobs| !jobs.is_empty());
            self.rotation.retain(|client| self.waiting.contains_key(client));
        }
        abandoned
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "it creates the key of a client")]
    fn client(number: u8) -> ClientKey {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    /// A queue whose jobs record their names when they run.
    struct Recorder {
        queue: FairQueue,
        names: Arc<Mutex<Vec<&'static str>>>,
        now: Instant,
    }

    impl Recorder {
        fn new() -> Self {
            Self { queue: FairQueue::new(1), names: Arc::default(), now: Instant::now() }
        }

        fn push(&mut self, purpose: HashPurpose, client: ClientKey, name: &'static str) {
            let names = Arc::clone(&self.names);
            let run = Box::new(move |_: &mut Vec<Block>| names.lock().expect("no panic").push(name));
            self.queue.push(purpose, client, Job { run, presence: ClientPresence::default(), since: self.now });
        }

        /// Runs the next jobs, and returns their names.
        fn run(&mut self, count: usize, now: Instant) -> Vec<&'static str> {
            for _ in 0..count {
                let job = self.queue.pop(now).expect("a job");
                (job.run)(&mut Vec::new());
            }
            std::mem::take(&mut self.names.lock().expect("no panic"))
        }
    }

    #[test]
    fn clients_take_turns() {
        let mut recorder = Recorder::new();
        for name in ["a1", "a2", "a3"] {
            recorder.push(HashPurpose::Login, client(1), name);
        }
        recorder.push(HashPurpose::Login, client(2), "b1");
        recorder.push(HashPurpose::Login, None, "c1");
        assert_eq!(recorder.run(5, recorder.now), ["a1", "b1", "c1", "a2", "a3"]);
        assert!(recorder.queue.pop(recorder.now).is_none());
    }

    #[test]
    fn login_gets_every_second_turn() {
        let mut recorder = Recorder::new();
        for _ in 0..4 {
            recorder.push(HashPurpose::Registration, client(1), "register");
            recorder.push(HashPurpose::PasswordChange, client(1), "change");
            recorder.push(HashPurpose::Login, client(1), "login");
        }
        assert_eq!(recorder.run(6, recorder.now), ["login", "register", "login", "change", "login", "register"]);
        assert_eq!(recorder.run(6, recorder.now), ["login", "change", "register", "change", "register", "change"]);
    }

    #[test]
    fn the_newest_job_is_first_once_the_oldest_is_late() {
        let mut recorder = Recorder::new();
        recorder.push(HashPurpose::Login, client(1), "a1");
        recorder.push(HashPurpose::Login, client(1), "a2");
        recorder.push(HashPurpose::Login, client(2), "b1");
        recorder.push(HashPurpose::Login, client(3), "c1");
        recorder.push(HashPurpose::Login, client(3), "c2");
        let late = recorder.now + PATIENCE * 2;
        assert_eq!(recorder.run(3, late), ["c2", "b1", "a2"]);
        recorder.now = late;
        recorder.push(HashPurpose::Login, client(4), "d1");
        assert_eq!(recorder.run(3, late), ["d1", "c1", "a1"]);
    }

    #[test]
    fn a_client_holds_at_most_as_many_slots_as_are_free() {
        let mut queue = FairQueue::new(1);
        let mut reserve = |number| std::iter::from_fn(|| queue.reserve(HashPurpose::Login, client(number)).then_some(())).count();
        assert_eq!((reserve(1), reserve(2), reserve(3)), (33, 16, 8));
        for _ in 0..33 {
            queue.release(HashPurpose::Login, client(1));
        }
        assert!(queue.reserve(HashPurpose::Login, client(2)));
        let others = std::iter::from_fn(|| queue.reserve(HashPurpose::Registration, client(1)).then_some(())).count();
        assert_eq!(others, 33, "each purpose has slots of its own");
    }
}
