//! Failures that the database does not take: counted by this pod alone, within bounds.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use super::{Bucket, Rule};
use crate::server::store::Standing;

/// Most buckets remembered, about 6 MiB.
const MAX_BUCKETS: usize = 65_536;

/// The buckets of this pod.
#[derive(Debug, Default)]
pub(super) struct Memory {
    buckets: Mutex<HashMap<Bucket, Count>>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    locked: bool,
    ends: Instant,
}

impl Memory {
    /// How a bucket stands.
    pub(super) fn standing(&self, bucket: &Bucket, now: Instant) -> Standing {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.get(bucket).filter(|count| count.ends > now).map_or_else(Standing::default, |count| {
            Standing { failures: count.failures, locked_for: count.locked.then(|| count.ends - now) }
        })
    }

    /// Counts a failure; the number of them.
    pub(super) fn record(&self, bucket: Bucket, rule: &Rule, now: Instant) -> u32 {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&bucket) {
            make_room(&mut buckets, now);
        }
        let count = buckets.entry(bucket).or_insert(Count { failures: 0, locked: false, ends: now });
        if count.ends <= now {
            *count = Count { failures: 0, locked: false, ends: now + rule.window };
        }
        count.failures += 1;
        if count.failures >= rule.limit {
            *count = Count { locked: true, ends: now + rule.lockout, ..*count };
        }
        count.failures
    }

    /// Forgets a bucket that is not locked.
    pub(super) fn forget(&self, bucket: &Bucket) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.get(bucket).is_some_and(|count| !count.locked) {
            buckets.remove(bucket);
        }
    }
}

/// Drops what has ended, or else the eighth that ends first, locks last.
fn make_room(buckets: &mut HashMap<Bucket, Count>, now: Instant) {
    buckets.retain(|_, count| count.ends > now);
    if buckets.len() < MAX_BUCKETS {
        return;
    }
    let mut order: Vec<(bool, Instant, Bucket)> =
        buckets.iter().map(|(bucket, count)| (count.locked, count.ends, *bucket)).collect();
    order.sort_unstable_by_key(|(locked, ends, _)| (*locked, *ends));
    for (_, _, bucket) in order.iter().take(MAX_BUCKETS / 8) {
        buckets.remove(bucket);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RULE: Rule = Rule { limit: 3, window: Duration::from_mins(1), lockout: Duration::from_mins(5) };

    #[test]
    fn the_limit_locks_and_both_times_end() {
        let (memory, start, bucket) = (Memory::default(), Instant::now(), Bucket::account("a@b.c"));
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!([0, 59].map(|second| memory.record(bucket, &RULE, after(second))), [1, 2]);
        assert_eq!(memory.standing(&bucket, after(59)), Standing { failures: 2, locked_for: None });
        assert_eq!(memory.standing(&bucket, after(60)), Standing::default(), "the window has passed");
        assert_eq!([60, 61, 62].map(|second| memory.record(bucket, &RULE, after(second))), [1, 2, 3]);
        let locked = Standing { failures: 3, locked_for: Some(Duration::from_secs(1)) };
        assert_eq!(memory.standing(&bucket, after(361)), locked);
        memory.forget(&bucket);
        assert_eq!(memory.standing(&bucket, after(361)), locked, "a success elsewhere opens no lock");
        assert_eq!(memory.standing(&bucket, after(362)), Standing::default());
        assert_eq!(memory.record(bucket, &RULE, after(362)), 1);
        memory.forget(&bucket);
        assert_eq!(memory.standing(&bucket, after(362)), Standing::default());
    }

    #[test]
    fn a_flood_of_names_is_bounded_and_opens_no_lock() {
        let (memory, now) = (Memory::default(), Instant::now());
        let locked = Bucket::account("victim@x.io");
        for _ in 0..3 {
            memory.record(locked, &RULE, now);
        }
        for number in 0..MAX_BUCKETS + 10 {
            memory.record(Bucket::account(&number.to_string()), &RULE, now);
        }
        assert!(memory.buckets.lock().unwrap().len() <= MAX_BUCKETS);
        assert!(memory.standing(&locked, now).locked_for.is_some());
    }
}
