//! The hashing threads: one per core except for one core, each with its own memory and a low priority, so that hashing does not slow
//! down other requests.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use access::{ClientInfo, ClientPresence, Error, Result, rate_limit_key};
use argon2::Block;
use aws_lc_rs::rand;
use parking_lot::{Condvar, Mutex};
use tokio::{sync::oneshot, time::Instant};

use super::queue::{ClientKey, FairQueue, HashPurpose, Job, LaneUse};

/// The shortest delay that a caller is told to wait when the queue is full. Up to the same time is added at random, so that rejected
/// callers do not all retry at once.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(2);
/// The nice value of the threads (`setpriority(2)`). Next to a busy thread with nice value 0, such a thread gets a tenth of a core.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// A thread pool with a bounded queue.
#[derive(Debug)]
pub(super) struct Pool(Arc<Shared>);

/// The part of a pool that its threads and slots share.
struct Shared {
    state: Mutex<State>,
    has_work: Condvar,
}

struct State {
    queue: FairQueue,
    /// Whether the pool was dropped. The threads then end.
    is_closed: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Pool {
    /// Starts the threads.
    pub(super) fn start() -> Self {
        let state = Mutex::new(State { queue: FairQueue::new(threads()), is_closed: false });
        let shared = Arc::new(Shared { state, has_work: Condvar::new() });
        for _ in 0..threads() {
            let shared = Arc::clone(&shared);
            let started = thread::Builder::new().name("passwords".to_owned()).spawn(move || shared.serve());
            started.expect("the system can start one thread per core");
        }
        Self(shared)
    }

    /// Reserves a slot in the queue for the client of the current call.
    ///
    /// # Errors
    ///
    /// Returns RESOURCE_EXHAUSTED with `RetryInfo` if no slot is free for this client.
    pub(super) fn acquire(&self, purpose: HashPurpose, client: &ClientInfo) -> Result<QueueSlot> {
        let client = client.address().map(rate_limit_key);
        let is_reserved = self.0.reserve(purpose, client);
        if is_reserved {
            let slot = Slot { shared: Arc::clone(&self.0), purpose, client };
            Ok(QueueSlot { slot, presence: ClientPresence::of_current_call() })
        } else {
            Err(Error::overloaded(retry_after()))
        }
    }
}

impl Pool {
    /// Returns the use of each purpose.
    pub(super) fn usage(&self) -> [(HashPurpose, LaneUse); 3] {
        self.0.state.lock().queue.usage()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.0.state.lock().is_closed = true;
        self.0.has_work.notify_all();
    }
}

/// A slot in the queue. Dropping it releases it.
#[derive(Debug)]
struct Slot {
    shared: Arc<Shared>,
    purpose: HashPurpose,
    client: ClientKey,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.state.lock().queue.release(self.purpose, self.client);
    }
}

/// A reserved slot in the queue.
#[derive(Debug)]
pub(super) struct QueueSlot {
    slot: Slot,
    presence: ClientPresence,
}

impl QueueSlot {
    /// Runs `work` when it is its turn. It then runs to completion even if the returned future is dropped.
    ///
    /// # Errors
    ///
    /// Returns RESOURCE_EXHAUSTED if the client has left before the work began.
    pub(super) async fn run<T: Send + 'static>(self, work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static) -> Result<T> {
        let Self { slot, presence } = self;
        let (sender, receiver) = oneshot::channel();
        let (shared, purpose, client) = (Arc::clone(&slot.shared), slot.purpose, slot.client);
        let run = Box::new(move |memory: &mut Vec<Block>| {
            let output = work(memory);
            drop(slot);
            let _ = sender.send(output);
        });
        let job = Job { run, presence: presence.clone(), since: Instant::now() };
        shared.push(purpose, client, job)?;
        receiver.await.map_err(|_| {
            // The job was removed from the queue without being run.
            if presence.has_left() { Error::overloaded(retry_after()) } else { Error::internal("a hashing thread panicked") }
        })
    }
}

impl Shared {
    fn reserve(&self, purpose: HashPurpose, client: ClientKey) -> bool {
        if self.state.lock().queue.reserve(purpose, client) {
            return true;
        }
        self.drop_abandoned();
        let queue = &mut self.state.lock().queue;
        let is_reserved = queue.reserve(purpose, client);
        if !is_reserved {
            queue.count_refusal(purpose);
        }
        is_reserved
    }

    fn push(&self, purpose: HashPurpose, client: ClientKey, job: Job) -> Result<()> {
        let mut state = self.state.lock();
        if state.is_closed {
            // The job releases its slot, for which it locks the queue.
            drop(state);
            drop(job);
            return Err(Error::internal("the hashing threads have stopped"));
        }
        state.queue.push(purpose, client, job);
        drop(state);
        self.has_work.notify_one();
        Ok(())
    }

    /// Removes the jobs whose clients have left.
    fn drop_abandoned(&self) {
        let abandoned = self.state.lock().queue.remove_abandoned();
        // The lock is released before, because dropping a job releases its slot.
        drop(abandoned);
    }

    /// Waits for the next job. Returns `None` if the pool was dropped.
    fn next(&self) -> Option<Job> {
        loop {
            self.drop_abandoned();
            let mut state = self.state.lock();
            match state.queue.pop(Instant::now()) {
                Some(job) => return Some(job),
                None if state.is_closed => return None,
                None => self.has_work.wait(&mut state),
            }
        }
    }

    fn serve(&self) {
        // If the priority cannot be lowered, the thread runs with the normal one.
        #[cfg(target_os = "linux")]
        let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
        let mut memory = Vec::new();
        while let Some(job) = self.next() {
            // The panic hook logs a panic, and the caller gets an error because the sender is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| (job.run)(&mut memory)));
        }
    }
}

/// Returns the number of concurrent hashes. One core stays free: if every core is busy hashing, any other thread that wakes up has to
/// wait for the next tick of the scheduler, even with a higher priority.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1))
}

fn retry_after() -> Duration {
    let mut byte = [0];
    // Without randomness the delay is the shortest one.
    let _ = rand::fill(&mut byte);
    MIN_RETRY_DELAY + MIN_RETRY_DELAY * u32::from(byte[0]) / 256
}
