//! The hashing pool: a few threads of lower priority, a bounded queue before them.
//!
//! The permit belongs to the work, not to the request: a client that hangs up in the middle of a
//! computation frees nothing, so no number of them can run more computations than permitted. Dear
//! computations take several permits where memory is limited, so that all of them together stay
//! within their part of it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{Capacity, scratch};
use crate::server::traces::phase;

/// Longest wait for a permit. Clients of a login give up after a few seconds; work for them
/// after that is wasted.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// Most waiting logins for each thread: at 25 ms each, more than this cannot be served in time.
const MAX_QUEUE_PER_THREAD: usize = 128;
/// Added to the niceness of hashing threads, so that validation goes first.
const NICENESS: i32 = 10;
/// There is no lower priority.
const MAX_NICENESS: i32 = 19;

/// The queue is full, or no permit came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more logins are waiting than can be hashed in time")]
pub struct Busy;

/// What a permit bought.
#[derive(Debug)]
pub struct Granted<T> {
    /// When the permit was granted.
    pub at: Instant,
    /// How long it was waited for.
    pub waited: Duration,
    /// The result of the work.
    pub result: T,
}

type Job = Box<dyn FnOnce() + Send>;

/// Runs bounded numbers of password computations.
#[derive(Debug)]
pub struct HashingPool {
    jobs: mpsc::Sender<Job>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    capacity: Capacity,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HashingPool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system starts no more threads.
    pub fn start(capacity: Capacity) -> io::Result<Self> {
        let threads = capacity.threads;
        scratch::keep_up_to(capacity.kept_kib);
        let (jobs, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..threads {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new().name(format!("hashing-{number}")).spawn(move || work(&receiver))?;
        }
        Ok(Self { jobs, permits: Arc::new(Semaphore::new(threads)), waiting: AtomicUsize::new(0), capacity })
    }

    /// Waits for a permit and runs the work, which takes up to `memory_kib`, on a hashing thread.
    ///
    /// # Errors
    /// The queue is full or the wait too long.
    pub async fn run<T: Send + 'static>(
        &self,
        memory_kib: u32,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Granted<T>, Busy> {
        let asked = Instant::now();
        let permit = phase("hashing queue", self.permit(self.capacity.shares(memory_kib))).await?;
        let at = Instant::now();
        let (sender, receiver) = oneshot::channel();
        let capacity = self.capacity;
        let job = Box::new(move || {
            let before = cpu_time();
            let result = work();
            // Nobody listens when the client has hung up.
            let _ = sender.send(result);
            thread::sleep(capacity.rest(cpu_time().saturating_sub(before)));
            drop(permit);
        });
        self.jobs.send(job).map_err(|_| Busy)?;
        let result = phase("hash password", receiver).await.map_err(|_| Busy)?;
        Ok(Granted { at, waited: at - asked, result })
    }

    /// Whether work that asked now would be refused at once.
    pub fn is_full(&self) -> bool {
        self.waiting() >= self.threads() * MAX_QUEUE_PER_THREAD
    }

    /// How many logins wait for a permit.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many computations run at most.
    pub fn threads(&self) -> usize {
        self.capacity.threads
    }

    /// Most KiB that one computation may take.
    pub fn most_kib(&self) -> u32 {
        self.capacity.most_kib()
    }

    async fn permit(&self, shares: u32) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_many_owned(shares) {
            return Ok(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.threads() * MAX_QUEUE_PER_THREAD {
            return Err(Busy);
        }
        match tokio::time::timeout(MAX_WAIT, Arc::clone(&self.permits).acquire_many_owned(shares)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>) {
    // Linux keeps a niceness for each thread. Where the system refuses, hashing merely competes on
    // equal terms.
    let own = rustix::process::getpriority_process(None).unwrap_or_default();
    let _ = rustix::process::setpriority_process(None, (own + NICENESS).min(MAX_NICENESS));
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a password computation panicked");
        }
    }
}

/// What this thread has computed so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn free(threads: usize) -> Capacity {
        Capacity { threads, memory_kib: None, kept_kib: 0, busy: 1.0 }
    }

    /// Fails rather than wait for ever.
    async fn until(it_is_so: impl Fn() -> bool) {
        let waiting = async {
            while !it_is_so() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn never_more_work_than_permits_even_when_every_client_hangs_up() {
        let pool = Arc::new(HashingPool::start(free(2)).unwrap());
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..40 {
            let (pool, running, most) = (Arc::clone(&pool), Arc::clone(&running), Arc::clone(&most));
            let client = tokio::spawn(async move {
                let work = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(5));
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                let _ = pool.run(1, work).await;
            });
            tokio::time::sleep(Duration::from_millis(1)).await;
            client.abort();
        }
        pool.run(1, || ()).await.unwrap();
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert_eq!(pool.waiting(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_is_refused_at_once() {
        let pool = Arc::new(HashingPool::start(free(1)).unwrap());
        let (release, wait) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(1, move || wait.recv().is_err()).await.map(|granted| granted.result) }
        });
        until(|| pool.permits.available_permits() == 0).await;
        assert!(!pool.is_full(), "one that computes has a queue before it");
        let queued: Vec<_> = (0..MAX_QUEUE_PER_THREAD)
            .map(|_| {
                tokio::spawn({
                    let pool = Arc::clone(&pool);
                    async move { pool.run(1, || ()).await.is_ok() }
                })
            })
            .collect();
        until(|| pool.waiting() >= MAX_QUEUE_PER_THREAD).await;
        assert!(pool.is_full());
        assert_eq!(pool.run(1, || ()).await.unwrap_err(), Busy);
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(false));
        for queued in queued {
            assert!(queued.await.unwrap());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn dear_computations_run_beside_fewer_others() {
        let capacity = Capacity { memory_kib: Some(4000), ..free(4) };
        let pool = Arc::new(HashingPool::start(capacity).unwrap());
        assert_eq!((pool.threads(), pool.most_kib()), (4, 4000), "what takes more is not computed");
        let (taken, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let runs = [500, 3000, 1000, 4000, 2000, 1500, 900_000, 1000].repeat(4).into_iter().map(|kib| {
            let (pool, taken, most) = (Arc::clone(&pool), Arc::clone(&taken), Arc::clone(&most));
            tokio::spawn(async move {
                let share = usize::try_from(kib).unwrap().min(4000);
                let work = move || {
                    most.fetch_max(taken.fetch_add(share, Ordering::SeqCst) + share, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(2));
                    taken.fetch_sub(share, Ordering::SeqCst);
                };
                pool.run(kib, work).await.unwrap();
            })
        });
        for run in runs.collect::<Vec<_>>() {
            run.await.unwrap();
        }
        assert!(most.load(Ordering::SeqCst) <= 4000, "{most:?}");
    }

    #[tokio::test]
    async fn hashing_goes_last_and_rests_under_a_cpu_limit() {
        let pool = HashingPool::start(Capacity { busy: 0.5, ..free(1) }).unwrap();
        let own = rustix::process::getpriority_process(None).unwrap();
        let niceness = pool.run(1, || rustix::process::getpriority_process(None).unwrap()).await.unwrap();
        assert_eq!(niceness.result, (own + NICENESS).min(MAX_NICENESS));
        let compute = || {
            let (begin, start) = (cpu_time(), Instant::now());
            while cpu_time().saturating_sub(begin) < Duration::from_millis(30) {
                assert!(start.elapsed() < Duration::from_secs(20), "computing takes no CPU time");
            }
        };
        let start = Instant::now();
        pool.run(1, compute).await.unwrap();
        assert!(pool.run(1, || ()).await.unwrap().at - start >= Duration::from_millis(60));
    }

    #[tokio::test]
    async fn a_panic_costs_neither_thread_nor_permit() {
        let pool = HashingPool::start(free(1)).unwrap();
        assert_eq!(pool.run(1, || -> () { panic!("test") }).await.unwrap_err(), Busy);
        assert_eq!(pool.run(1, || 7).await.unwrap().result, 7);
    }
}
