//! The hashing pool: a few threads of lower priority, a bounded queue before them.
//!
//! The permit belongs to the work, not to the request: a client that hangs up in the middle of a
//! computation frees nothing, so no number of them can run more computations than permitted.

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

use super::Cost;

/// Longest wait for a permit. Clients of a login give up after a few seconds; work for them
/// after that is wasted.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// Most waiting logins for each thread: at 25 ms each, more than this cannot be served in time.
const MAX_QUEUE_PER_THREAD: usize = 128;
/// Added to the niceness of hashing threads, so that validation goes first.
const NICENESS: i32 = 10;

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
    threads: usize,
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
    pub fn start(threads: usize) -> io::Result<Self> {
        let (jobs, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for number in 0..threads {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new().name(format!("hashing-{number}")).spawn(move || work(&receiver))?;
        }
        Ok(Self { jobs, permits: Arc::new(Semaphore::new(threads)), waiting: AtomicUsize::new(0), threads })
    }

    /// Waits for a permit and runs the work on a hashing thread.
    ///
    /// # Errors
    /// The queue is full or the wait too long.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Granted<T>, Busy> {
        let asked = Instant::now();
        let permit = self.permit().await?;
        let at = Instant::now();
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move || {
            let result = work();
            drop(permit);
            // Nobody listens when the client has hung up.
            let _ = sender.send(result);
        });
        self.jobs.send(job).map_err(|_| Busy)?;
        let result = receiver.await.map_err(|_| Busy)?;
        Ok(Granted { at, waited: at - asked, result })
    }

    /// Whether work that asked now would be refused at once.
    pub fn is_full(&self) -> bool {
        self.waiting() >= self.threads * MAX_QUEUE_PER_THREAD
    }

    /// How many logins wait for a permit.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many computations run at most.
    pub fn threads(&self) -> usize {
        self.threads
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Busy> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Ok(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.threads * MAX_QUEUE_PER_THREAD {
            return Err(Busy);
        }
        match tokio::time::timeout(MAX_WAIT, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Busy),
        }
    }
}

fn work(jobs: &Mutex<mpsc::Receiver<Job>>) {
    // Where the system refuses, hashing merely competes on equal terms.
    let _ = rustix::process::setpriority_process(None, NICENESS);
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if catch_unwind(AssertUnwindSafe(job)).is_err() {
            tracing::error!("a password computation panicked");
        }
    }
}

/// How many computations may run at the same time when nobody says: the CPUs at hand, counting
/// affinity and quota. A quota is shared with `/validate`, so one of its CPUs is left free. Under a
/// memory limit all computations together take at most half of it.
#[must_use]
pub fn default_threads() -> usize {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let cpus = if has_quota() { cpus.saturating_sub(1) } else { cpus };
    cpus.min(affordable(memory_limit())).max(1)
}

/// How many new hashes fit into half of this many bytes.
fn affordable(limit: Option<u64>) -> usize {
    let each = u64::from(Cost::of_new().memory_kib) * 1024;
    limit.map_or(usize::MAX, |limit| usize::try_from(limit / 2 / each).unwrap_or(usize::MAX))
}

/// The bytes that a control group (v2, then v1) allows this process; v1 says "no limit" by a number
/// beyond any memory.
fn memory_limit() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    files.iter().find_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// Whether a control group (v2, then v1) limits the CPU time of this process.
fn has_quota() -> bool {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v2 = read("/sys/fs/cgroup/cpu.max");
    let v1 = read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
    let limited = |quota: Option<&str>| {
        quota.and_then(|quota| quota.parse::<i64>().ok()).is_some_and(|quota| quota > 0)
    };
    limited(v2.split_whitespace().next()) || limited(v1.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn never_more_work_than_permits_even_when_every_client_hangs_up() {
        let pool = Arc::new(HashingPool::start(2).unwrap());
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        for _ in 0..40 {
            let (pool, running, most) = (Arc::clone(&pool), Arc::clone(&running), Arc::clone(&most));
            let client = tokio::spawn(async move {
                let work = move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(5));
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                let _ = pool.run(work).await;
            });
            tokio::time::sleep(Duration::from_millis(1)).await;
            client.abort();
        }
        pool.run(|| ()).await.unwrap();
        assert!(most.load(Ordering::SeqCst) <= 2);
        assert_eq!(pool.waiting(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_is_refused_at_once() {
        let pool = Arc::new(HashingPool::start(1).unwrap());
        let (release, wait) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let pool = Arc::clone(&pool);
            async move { pool.run(move || wait.recv().is_err()).await.map(|granted| granted.result) }
        });
        while pool.permits.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let queued: Vec<_> = (0..MAX_QUEUE_PER_THREAD)
            .map(|_| {
                tokio::spawn({
                    let pool = Arc::clone(&pool);
                    async move { pool.run(|| ()).await.is_ok() }
                })
            })
            .collect();
        while pool.waiting() < MAX_QUEUE_PER_THREAD {
            tokio::task::yield_now().await;
        }
        assert!(pool.is_full());
        assert_eq!(pool.run(|| ()).await.unwrap_err(), Busy);
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap(), Ok(false));
        for queued in queued {
            assert!(queued.await.unwrap());
        }
    }

    #[test]
    fn a_memory_limit_bounds_the_computations_and_leaves_half() {
        const MIB: u64 = 1024 * 1024;
        assert_eq!(affordable(None), usize::MAX);
        assert_eq!((affordable(Some(256 * MIB)), affordable(Some(30 * MIB))), (6, 0));
        assert!(default_threads() >= 1);
    }

    #[tokio::test]
    async fn a_panic_costs_neither_thread_nor_permit() {
        let pool = HashingPool::start(1).unwrap();
        assert_eq!(pool.run(|| -> () { panic!("test") }).await.unwrap_err(), Busy);
        assert_eq!(pool.run(|| 7).await.unwrap().result, 7);
    }
}
