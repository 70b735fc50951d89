//! Loads: as many calls as the server answers, or calls at a given rate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{
    connection::{Connection, Failure, Kind, Target},
    process::Process,
};

/// The connections of a load over gRPC.
const CONNECTIONS: usize = 4;

/// Returns the body of the next call of a worker. It gets the last response that the worker has received.
pub(crate) type Bodies = Arc<dyn Fn(usize, Option<&[u8]>) -> Bytes + Send + Sync>;

/// A load: calls, and their bodies.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) target: Target,
    pub(crate) bodies: Bodies,
    /// The number of calls at the same time.
    pub(crate) workers: usize,
}

/// The outcome of a load with as many calls as the server answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Throughput {
    /// The calls in a second.
    pub(crate) per_second: f64,
    /// The processor time of the server in a call, in microseconds.
    pub(crate) cpu: f64,
    /// The median of the latencies, in milliseconds.
    pub(crate) median: f64,
}

/// The latencies of calls at a given rate, in milliseconds, sorted. Each is measured from the time when the call should have begun.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Vec<f64>);

impl Latencies {
    /// Returns the latency that `share` of all calls do not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "an index")]
        let index = (share * self.0.len() as f64) as usize;
        self.0.get(index.min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

impl Load {
    /// Creates a load whose calls all have the same body.
    pub(crate) fn fixed(target: Target, body: impl Into<Bytes>, workers: usize) -> Self {
        let body = body.into();
        Self { target, bodies: Arc::new(move |_, _| body.clone()), workers }
    }

    /// Calls as fast as the server answers, for `duration`.
    pub(crate) async fn saturate(&self, server: &Process, duration: Duration) -> Result<Throughput, Failure> {
        let mut connections = self.connect().await?;
        // The server compiles its statements, and its caches fill.
        for (worker, connection) in connections.iter_mut().enumerate() {
            self.call(connection, worker).await?;
        }
        let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (began, cpu) = (Instant::now(), server.cpu());
        let mut workers = JoinSet::new();
        for (worker, mut connection) in connections.into_iter().enumerate() {
            let (stop, calls, load) = (Arc::clone(&stop), Arc::clone(&calls), self.clone());
            workers.spawn(async move {
                let (mut latencies, mut last) = (Vec::new(), None);
                while !stop.load(Relaxed) {
                    let began = Instant::now();
                    last = Some(connection.call((load.bodies)(worker, last.as_deref())).await?);
                    latencies.push(milliseconds(began.elapsed()));
                    calls.fetch_add(1, Relaxed);
                }
                // The next load continues with what the last response says.
                (load.bodies)(worker, last.as_deref());
                Ok::<_, Failure>(latencies)
            });
        }
        tokio::time::sleep(duration).await;
        let (calls, elapsed, cpu) = (calls.load(Relaxed), began.elapsed(), server.cpu().saturating_sub(cpu));
        stop.store(true, Relaxed);
        let latencies = sorted(workers).await?;
        #[expect(clippy::cast_precision_loss, reason = "far fewer calls than 2^52")]
        let calls = calls.max(1) as f64;
        Ok(Throughput {
            per_second: calls / elapsed.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / calls,
            median: latencies.quantile(0.5),
        })
    }

    /// Begins `rate` calls in each second, whether or not the server answers, for `duration`.
    pub(crate) async fn at_rate(&self, rate: f64, duration: Duration) -> Result<Latencies, Failure> {
        let connections = self.connect().await?;
        let (schedule, due) = mpsc::unbounded_channel();
        let due = Arc::new(Mutex::new(due));
        let mut workers = JoinSet::new();
        for (worker, mut connection) in connections.into_iter().enumerate() {
            let (due, load) = (Arc::clone(&due), self.clone());
            workers.spawn(async move {
                let (mut latencies, mut last) = (Vec::new(), None);
                loop {
                    let Some(intended) = due.lock().await.recv().await else { break };
                    last = Some(connection.call((load.bodies)(worker, last.as_deref())).await?);
                    latencies.push(milliseconds(Instant::duration_since(&Instant::now(), intended)));
                }
                (load.bodies)(worker, last.as_deref());
                Ok::<_, Failure>(latencies)
            });
        }
        // The timer of the runtime has a resolution of a millisecond only.
        let scheduler = thread::spawn(move || {
            let (began, mut number) = (Instant::now(), 0_u32);
            loop {
                let intended = began + Duration::from_secs_f64(f64::from(number) / rate);
                if intended - began >= duration {
                    break;
                }
                thread::sleep(intended.saturating_duration_since(Instant::now()));
                if schedule.send(intended).is_err() {
                    break;
                }
                number += 1;
            }
        });
        let latencies = sorted(workers).await?;
        scheduler.join().map_err(|_| "the scheduler panicked")?;
        Ok(latencies)
    }

    /// Makes one call of a worker.
    async fn call(&self, connection: &mut Connection, worker: usize) -> Result<(), Failure> {
        let response = connection.call((self.bodies)(worker, None)).await?;
        (self.bodies)(worker, Some(&response));
        Ok(())
    }

    async fn connect(&self) -> Result<Vec<Connection>, Failure> {
        let mut opened = Vec::new();
        for worker in 0..self.workers {
            let is_shared = matches!(self.target.kind, Kind::Grpc(_)) && worker >= CONNECTIONS;
            let connection: Connection = if is_shared {
                let first: &Connection = &opened[worker % CONNECTIONS];
                first.share(&self.target).await?
            } else {
                Connection::open(&self.target).await?
            };
            opened.push(connection);
        }
        Ok(opened)
    }
}

async fn sorted(mut workers: JoinSet<Result<Vec<f64>, Failure>>) -> Result<Latencies, Failure> {
    let mut latencies = Vec::new();
    while let Some(done) = workers.join_next().await {
        latencies.extend(done??);
    }
    latencies.sort_by(f64::total_cmp);
    Ok(Latencies(latencies))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
