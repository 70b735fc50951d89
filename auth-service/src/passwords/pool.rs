//! The hashing threads: one per core except for one core, each with its own memory and a low priority, so that hashing does not slow
//! down other requests.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use access::{Error, Result};
use argon2::Block;
use aws_lc_rs::rand;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The number of hashes that may wait for a thread.
pub(super) const QUEUE_LENGTH: usize = 64;
/// The shortest delay that a caller is told to wait when the queue is full. Up to the same time is added at random, so that rejected
/// callers do not all retry at once.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(2);
/// The nice value of the threads (`setpriority(2)`). Next to a busy thread with nice value 0, such a thread gets a tenth of a core.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

type Job = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

/// A thread pool with a bounded queue.
#[derive(Debug)]
pub(super) struct Pool {
    jobs: mpsc::Sender<Job>,
    slots: Arc<Semaphore>,
}

impl Pool {
    /// Starts the threads.
    pub(super) fn start() -> Self {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads() {
            let queue = Arc::clone(&queue);
            let started = thread::Builder::new().name("passwords".to_owned()).spawn(move || serve(&queue));
            started.expect("the system can start one thread per core");
        }
        Self { jobs, slots: Arc::new(Semaphore::new(threads() + QUEUE_LENGTH)) }
    }

    /// Reserves a slot in the queue.
    ///
    /// # Errors
    ///
    /// Returns RESOURCE_EXHAUSTED with `RetryInfo` if the queue is full.
    pub(super) fn acquire(&self) -> Result<QueueSlot> {
        let permit = Arc::clone(&self.slots).try_acquire_owned();
        permit.map(|permit| QueueSlot { permit, jobs: self.jobs.clone() }).map_err(|_| Error::overloaded(retry_after()))
    }
}

/// A slot in the queue. Dropping it releases it.
#[derive(Debug)]
pub(super) struct QueueSlot {
    permit: OwnedSemaphorePermit,
    jobs: mpsc::Sender<Job>,
}

impl QueueSlot {
    /// Runs `work` on the next free thread. It runs to completion even if the returned future is dropped.
    pub(super) async fn run<T: Send + 'static>(self, work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let permit = self.permit;
        let job: Job = Box::new(move |memory| {
            let output = work(memory);
            drop(permit);
            let _ = sender.send(output);
        });
        self.jobs.send(job).map_err(|_| Error::internal("the hashing threads have stopped"))?;
        receiver.await.map_err(|_| Error::internal("a hashing thread panicked"))
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

fn serve(queue: &Mutex<mpsc::Receiver<Job>>) {
    // If the priority cannot be lowered, the thread runs with the normal one.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
    let mut memory = Vec::new();
    loop {
        let next = queue.lock().recv();
        let Ok(job) = next else { return };
        // The panic hook logs a panic, and the caller gets an error because the sender is dropped.
        let _ = catch_unwind(AssertUnwindSafe(|| job(&mut memory)));
    }
}
