//! The threads that sign: one for each processor.
//!
//! A signature takes up to a millisecond of processor time, for which it would keep other calls waiting on a thread of the runtime. The
//! runtime's threads for blocking work would be woken for each signature; these go on while there is work.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use access::{Error, Result};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads that sign. They end when it is dropped.
pub(crate) struct SigningPool(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    has_work: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

impl SigningPool {
    /// Starts the threads.
    ///
    /// # Panics
    ///
    /// Panics if the system cannot start one thread for each processor.
    pub(crate) fn start() -> Self {
        let shared = Arc::<Shared>::default();
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let shared = Arc::clone(&shared);
            let started = thread::Builder::new().name("signatures".to_owned()).spawn(move || shared.serve());
            started.expect("the system can start one thread per core");
        }
        Self(shared)
    }

    /// Runs `work` when it is its turn. It does not run if the returned future is dropped before.
    ///
    /// # Errors
    ///
    /// Returns the error of `work`, or INTERNAL if it panics.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move || {
            if !sender.is_closed() {
                let _ = sender.send(work());
            }
        });
        self.0.state.lock().jobs.push_back(job);
        self.0.has_work.notify_one();
        receiver.await.map_err(|_| Error::internal("a signing thread panicked"))?
    }
}

impl Shared {
    /// Runs jobs until the pool is closed.
    fn serve(&self) {
        loop {
            let job = {
                let mut state = self.state.lock();
                self.has_work.wait_while(&mut state, |state| state.jobs.is_empty() && !state.is_closed);
                state.jobs.pop_front()
            };
            let Some(job) = job else { return };
            // The caller notices a panic, because the job drops its sender.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }
}

impl Drop for SigningPool {
    fn drop(&mut self) {
        self.0.state.lock().is_closed = true;
        self.0.has_work.notify_all();
    }
}

impl fmt::Debug for SigningPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningPool").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::{Context, Waker},
    };

    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_the_thread_goes_on() {
        let pool = SigningPool::start();
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let panicked = pool.run(|| -> Result<()> { panic!("on purpose") }).await;
            assert_eq!(panicked.expect_err("an error").code(), Code::Internal);
        }
        assert_eq!(pool.run(|| Ok(7)).await.expect("a result"), 7);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_any_more_does_not_run() {
        let pool = Arc::new(SigningPool::start());
        let runs = Arc::new(AtomicUsize::new(0));
        let threads = thread::available_parallelism().map_or(1, usize::from);
        // Each thread runs a job that ends when its sender is dropped.
        let (busy, mut began) = tokio::sync::mpsc::unbounded_channel();
        let (ends, held): (Vec<_>, Vec<_>) = (0..threads).map(|_| std::sync::mpsc::channel::<()>()).unzip();
        let held: Vec<_> = held
            .into_iter()
            .map(|end| {
                let (pool, busy) = (Arc::clone(&pool), busy.clone());
                tokio::spawn(async move {
                    let work = move || {
                        let _ = busy.send(());
                        let _ = end.recv();
                        Ok(())
                    };
                    pool.run(work).await
                })
            })
            .collect();
        for _ in 0..threads {
            began.recv().await.expect("a job");
        }
        let counted = Arc::clone(&runs);
        let count = move || {
            counted.fetch_add(1, SeqCst);
            Ok(())
        };
        let mut abandoned = Box::pin(pool.run(count.clone()));
        assert!(abandoned.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(abandoned);
        drop(ends);
        for job in held {
            job.await.expect("a task").expect("a result");
        }
        pool.run(count).await.expect("a result");
        assert_eq!(runs.load(SeqCst), 1);
    }
}
