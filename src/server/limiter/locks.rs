//! Locks seen a moment ago, so that a flood of logins at a locked bucket is no flood of queries.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Bucket;

/// How long a lock is believed without another look: an unlocked account is admitted after that.
const BELIEVED: Duration = Duration::from_secs(1);
/// Most locks remembered; beyond them the database is asked.
const MAX_LOCKS: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Locks(Mutex<HashMap<Bucket, Lock>>);

#[derive(Debug, Clone, Copy)]
struct Lock {
    seen: Instant,
    ends: Instant,
}

impl Lock {
    fn holds(&self, now: Instant) -> bool {
        now < self.ends && now < self.seen + BELIEVED
    }
}

impl Locks {
    /// How long the bucket is locked for, if that was seen a moment ago.
    pub(super) fn left(&self, bucket: &Bucket, now: Instant) -> Option<Duration> {
        let locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.get(bucket).filter(|lock| lock.holds(now)).map(|lock| lock.ends - now)
    }

    /// Remembers that the bucket is locked; says whether that is news.
    pub(super) fn note(&self, bucket: Bucket, left: Duration, now: Instant) -> bool {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if locks.len() >= MAX_LOCKS {
            locks.retain(|_, lock| lock.holds(now));
        }
        if locks.len() >= MAX_LOCKS && !locks.contains_key(&bucket) {
            return true;
        }
        let before = locks.insert(bucket, Lock { seen: now, ends: now + left });
        !before.is_some_and(|lock| lock.holds(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_believed_for_a_second_and_not_beyond_its_end() {
        let (locks, bucket, start) = (Locks::default(), Bucket::account("a@b.c"), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        assert!(locks.note(bucket, Duration::from_mins(1), start));
        assert!(!locks.note(bucket, Duration::from_mins(1), after(10)), "no news");
        assert_eq!(locks.left(&bucket, after(500)), Some(Duration::from_millis(59_510)));
        assert_eq!(locks.left(&bucket, after(1010)), None);
        assert!(locks.note(bucket, Duration::from_millis(100), after(2000)));
        assert_eq!(locks.left(&bucket, after(2100)), None);
        assert_eq!(locks.left(&Bucket::account("b@b.c"), start), None);
    }

    #[test]
    fn many_locks_take_bounded_room() {
        let (locks, start) = (Locks::default(), Instant::now());
        for number in 0..2 * MAX_LOCKS {
            locks.note(Bucket::account(&number.to_string()), Duration::from_mins(1), start);
        }
        assert_eq!(locks.0.lock().unwrap().len(), MAX_LOCKS);
        let late = Bucket::account("late");
        locks.note(late, Duration::from_mins(1), start + BELIEVED);
        assert_eq!(locks.0.lock().unwrap().len(), 1);
    }
}
