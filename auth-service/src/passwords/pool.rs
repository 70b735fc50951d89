//! The threads that hash: on every core but one, with memory of their own, and of a low priority, so that whoever does not
//! sign in does not feel those who do.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use access::{Error, Result};
use argon2::Block;
use aws_lc_rs::rand;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How many hashes may wait for a thread.
pub(super) const QUEUE: usize = 64;
/// When whoever found the queue full should come back, at the earliest. It is scattered over as much again, so that those who
/// were turned away together don't come back together.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// How nice the threads are (`setpriority(2)`): beside one busy thread of the ordinary 0, a tenth of a core is theirs.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

type Work = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

/// Threads that hash, and a queue of those who wait for one.
#[derive(Debug)]
pub(super) struct Pool {
    work: mpsc::Sender<Work>,
    places: Arc<Semaphore>,
}

impl Pool {
    /// A thread for every core but one.
    pub(super) fn start() -> Self {
        let (work, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..threads() {
            let queue = Arc::clone(&queue);
            let started = thread::Builder::new().name("passwords".to_owned()).spawn(move || serve(&queue));
            started.expect("a machine that can start so many threads");
        }
        Self { work, places: Arc::new(Semaphore::new(threads() + QUEUE)) }
    }

    /// A place in the queue.
    pub(super) fn place(&self) -> Result<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned();
        permit.map(|permit| Place { permit, work: self.work.clone() }).map_err(|_| Error::overloaded(retry_after()))
    }
}

/// A place in the queue, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    permit: OwnedSemaphorePermit,
    work: mpsc::Sender<Work>,
}

impl Place {
    /// Runs `work` when it is its turn. It comes to its end whether or not anybody still waits for it.
    pub(super) async fn run<T: Send + 'static>(self, work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static) -> Result<T> {
        let (tell, told) = oneshot::channel();
        let permit = self.permit;
        let work: Work = Box::new(move |memory| {
            let done = work(memory);
            drop(permit);
            let _ = tell.send(done);
        });
        self.work.send(work).map_err(|_| Error::internal("the threads that hash are gone"))?;
        told.await.map_err(|_| Error::internal("a hash panicked"))
    }
}

/// How many hashes are computed at once. Where every core computes one, whoever wakes up for anything else waits for the
/// scheduler's next tick, whatever the priorities.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).max(1))
}

fn retry_after() -> Duration {
    let mut byte = [0];
    // Without randomness they are merely not scattered.
    let _ = rand::fill(&mut byte);
    RETRY_AFTER + RETRY_AFTER * u32::from(byte[0]) / 256
}

fn serve(queue: &Mutex<mpsc::Receiver<Work>>) {
    // Where the priority can't be lowered, it is merely not lowered.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE);
    let mut memory = Vec::new();
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(work) = next else { return };
        // The panic is logged, and whoever waits for the work is told.
        let _ = catch_unwind(AssertUnwindSafe(|| work(&mut memory)));
    }
}
