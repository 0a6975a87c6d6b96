//! How many guesses at one bucket this pod makes at a time.
//!
//! A guess counts when it is proven wrong, so those in flight are not counted yet. They are few: a
//! bucket without failures has a place for each of a few guesses, one with failures a single place.
//! Whoever finds none waits and is not refused, since theirs may be the right password.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::Bucket;

/// The gates of the buckets that somebody is at just now.
#[derive(Debug, Default)]
pub(super) struct Gates(Mutex<HashMap<Bucket, Arc<Gate>>>);

#[derive(Debug)]
struct Gate {
    width: u32,
    places: Arc<Semaphore>,
    failed: AtomicBool,
}

/// Keeps the gate while somebody waits at it or has passed it; the last one takes it away.
#[derive(Debug)]
struct Visit {
    gates: Arc<Gates>,
    bucket: Bucket,
    gate: Arc<Gate>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut gates = self.gates.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The map's and ours: a third could only be made under this lock.
        if Arc::strong_count(&self.gate) == 2 {
            gates.remove(&self.bucket);
        }
    }
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Pass {
    place: OwnedSemaphorePermit,
    alone: bool,
    visit: Visit,
}

impl Gates {
    /// Waits for a place among `width`, or to be alone once a failure is known. Who finds nobody is
    /// alone until it has learned better. `None` at the deadline.
    pub(super) async fn enter(
        self: &Arc<Self>,
        bucket: Bucket,
        width: u32,
        deadline: Instant,
    ) -> Option<Pass> {
        let visit = self.visit(bucket, width);
        if let Ok(place) = Arc::clone(&visit.gate.places).try_acquire_many_owned(width) {
            return Some(Pass { place, alone: true, visit });
        }
        if !visit.gate.has_failed() {
            let place = timeout_at(deadline, Arc::clone(&visit.gate.places).acquire_owned());
            let pass = Pass { place: place.await.ok()?.ok()?, alone: false, visit };
            // Somebody may have failed while we waited.
            return if pass.is_crowded() { pass.alone(deadline).await } else { Some(pass) };
        }
        visit.alone(deadline).await
    }

    fn visit(self: &Arc<Self>, bucket: Bucket, width: u32) -> Visit {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gate = gates.entry(bucket).or_insert_with(|| {
            let places = Arc::new(Semaphore::new(width as usize));
            Arc::new(Gate { width, places, failed: AtomicBool::new(false) })
        });
        Visit { gates: Arc::clone(self), bucket, gate: Arc::clone(gate) }
    }
}

impl Gate {
    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

impl Visit {
    async fn alone(self, deadline: Instant) -> Option<Pass> {
        let places = Arc::clone(&self.gate.places).acquire_many_owned(self.gate.width);
        Some(Pass { place: timeout_at(deadline, places).await.ok()?.ok()?, alone: true, visit: self })
    }
}

impl Pass {
    /// The bucket.
    pub(super) fn bucket(&self) -> Bucket {
        self.visit.bucket
    }

    /// Takes note of whether the bucket has failures. Only who is alone can know that it has none,
    /// and then lets others in.
    pub(super) fn learn(&mut self, failed: bool) {
        if failed || self.alone {
            self.visit.gate.failed.store(failed, Ordering::Release);
        }
        if !failed && self.alone {
            drop(self.place.split(self.visit.gate.width as usize - 1));
            self.alone = self.visit.gate.width == 1;
        }
    }

    /// Whether the bucket is known to have failures.
    pub(super) fn has_failed(&self) -> bool {
        self.visit.gate.has_failed()
    }

    /// Whether it has, and others may be in flight.
    pub(super) fn is_crowded(&self) -> bool {
        !self.alone && self.has_failed()
    }

    /// Gives the place up and waits to be alone. `None` at the deadline.
    pub(super) async fn alone(self, deadline: Instant) -> Option<Self> {
        let Self { place, visit, .. } = self;
        drop(place);
        visit.alone(deadline).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    fn gates() -> (Arc<Gates>, Bucket) {
        (Arc::default(), Bucket::account("a@b.c"))
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_first_is_alone_until_the_bucket_is_known_to_be_clean() {
        let (gates, bucket) = gates();
        let mut first = gates.enter(bucket, 2, soon()).await.unwrap();
        assert!(gates.enter(bucket, 2, soon()).await.is_none(), "the wait is bounded");
        let _other = gates.enter(Bucket::account("b@b.c"), 2, soon()).await.unwrap();
        first.learn(false);
        let _second = gates.enter(bucket, 2, soon()).await.unwrap();
        assert!(gates.enter(bucket, 2, soon()).await.is_none(), "no more than the width");
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_with_failures_has_a_single_place() {
        let (gates, bucket) = gates();
        let mut first = gates.enter(bucket, 2, soon()).await.unwrap();
        first.learn(false);
        let mut second = gates.enter(bucket, 2, soon()).await.unwrap();
        let waiting = tokio::spawn({
            let gates = Arc::clone(&gates);
            async move { gates.enter(bucket, 2, soon()).await.unwrap() }
        });
        tokio::task::yield_now().await;
        first.learn(true);
        second.learn(false);
        assert!(first.is_crowded() && second.is_crowded(), "the second cannot know better");
        drop(first);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!waiting.is_finished(), "it must be alone");
        drop(second);
        let mut third = waiting.await.unwrap();
        assert!(third.has_failed() && !third.is_crowded());
        third.learn(true);
        assert!(gates.enter(bucket, 2, soon()).await.is_none());
        third.learn(false);
        assert!(!third.has_failed());
        assert!(!gates.enter(bucket, 2, soon()).await.unwrap().is_crowded());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowded_guess_waits_again_without_losing_what_is_known() {
        let (gates, bucket) = gates();
        let mut first = gates.enter(bucket, 2, soon()).await.unwrap();
        first.learn(false);
        first.learn(true);
        let alone = first.alone(soon()).await.unwrap();
        assert!(alone.has_failed() && !alone.is_crowded());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_leaves_anything_behind() {
        let (gates, bucket) = gates();
        let pass = gates.enter(bucket, 1, soon()).await.unwrap();
        let waiting = gates.enter(bucket, 1, soon());
        let _ = tokio::time::timeout(Duration::from_millis(10), waiting).await;
        assert_eq!(gates.0.lock().unwrap().len(), 1);
        drop(pass);
        assert!(gates.0.lock().unwrap().is_empty());
    }
}
