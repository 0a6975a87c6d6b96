//! The list in memory: bounded, read by every `/validate`, changed only by what the database says.

use std::{
    collections::HashMap,
    sync::{
        PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::server::{
    store::{
        StoreError,
        revocations::{Entry, Reader},
    },
    tokens::{Fingerprint, Holder, Identity},
};

/// Most tokens listed one by one, in about 26 MB.
const MAX_TOKENS: usize = 500_000;
/// Most users of whom the list says which tokens are good, in about 60 MB with their names.
const MAX_USERS: usize = 500_000;
/// Most users in a table of which the deletion by hand is noticed.
const MAX_IDS: usize = 1_000_000;
/// How far the clock of the pod that issued a token may lag behind ours, in seconds: a user created
/// after the ids were read must not look deleted.
const CLOCK_SKEW: i64 = 60;

/// Half of a fingerprint tells it from every other as well.
type Key = [u8; 16];

/// No more tokens can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more tokens are revoked than can be remembered")]
pub struct Full;

/// What has ended.
#[derive(Debug, Default)]
pub struct List {
    /// Tokens and the second in which each expires. They only ever leave by expiring.
    tokens: RwLock<HashMap<Key, i64>>,
    users: RwLock<Users>,
    full: AtomicBool,
}

/// Which tokens of whom are good.
#[derive(Debug, Default)]
struct Users {
    by_id: HashMap<i64, Standing>,
    by_name: HashMap<Key, Standing>,
    existing: Option<Existing>,
}

/// Which of a user's tokens are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Standing {
    /// Those of an earlier generation have ended, and so have those without one that were issued in
    /// this second since 1970 or before.
    generation: i64,
    /// Those of this generation have ended too, and all without one. Those of a later one are good: the
    /// user is back, which was not read yet.
    barred: bool,
}

/// The ids in table `user`, as runs of consecutive ones.
#[derive(Debug, Default, PartialEq, Eq)]
struct Existing {
    runs: Vec<(i64, i64)>,
    count: usize,
    /// The second since 1970 before which they were read.
    as_of: i64,
}

impl List {
    /// Whether this token has ended.
    pub(super) fn ends(&self, token: &Identity) -> bool {
        if read(&self.tokens).contains_key(&key(&token.token)) {
            return true;
        }
        let users = read(&self.users);
        match token.holder {
            Holder::User { id, generation } => {
                users.by_id.get(&id).is_some_and(|standing| standing.ends(generation, token.issued_at))
                    || users.existing.as_ref().is_some_and(|existing| existing.lacks(id, token.issued_at))
            }
            Holder::Username(name) => {
                users.by_name.get(&key(&name)).is_some_and(|standing| standing.ends(None, token.issued_at))
            }
            Holder::Unknown => false,
        }
    }

    pub(super) fn tokens(&self) -> usize {
        read(&self.tokens).len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Lists a token, unless it has expired at `now`.
    pub(super) fn note(&self, token: &Fingerprint, expires_at: i64, now: u64) -> Result<(), Full> {
        if is_past(expires_at, now) {
            return Ok(());
        }
        let mut tokens = write(&self.tokens);
        if tokens.len() >= MAX_TOKENS && !tokens.contains_key(&key(token)) {
            self.full.store(true, Ordering::Relaxed);
            return Err(Full);
        }
        tokens.insert(key(token), expires_at);
        Ok(())
    }

    /// Adds what changed lately.
    pub(super) async fn add_recent(&self, reader: &mut Reader, now: u64) -> Result<(), StoreError> {
        reader
            .recent(&mut |entry| match entry {
                // A list that is full says so by itself.
                Entry::Token(token, expires_at) => drop(self.note(&token, expires_at, now)),
                user @ Entry::User { .. } => {
                    if !write(&self.users).add(&user) {
                        self.full.store(true, Ordering::Relaxed);
                    }
                }
                Entry::Exists(_) => {}
            })
            .await
    }

    /// Reads everything, and forgets tokens that have expired and users without an entry.
    pub(super) async fn replace(&self, reader: &mut Reader, now: u64) -> Result<(), StoreError> {
        let mut users = Users::default();
        let mut existing = Existing { as_of: i64::try_from(now).unwrap_or(i64::MAX), ..Existing::default() };
        let mut full = false;
        write(&self.tokens).retain(|_, expires_at| !is_past(*expires_at, now));
        reader
            .everything(MAX_IDS, &mut |entry| match entry {
                Entry::Token(token, expires_at) => full |= self.note(&token, expires_at, now).is_err(),
                user @ Entry::User { .. } => full |= !users.add(&user),
                Entry::Exists(id) => existing.push(id),
            })
            .await?;
        // A table without anybody is one that is just being restored.
        users.existing = Some(existing).filter(|existing| (1..=MAX_IDS).contains(&existing.count));
        *write(&self.users) = users;
        self.full.store(full, Ordering::Relaxed);
        Ok(())
    }
}

impl Users {
    /// Says whether there was room.
    fn add(&mut self, user: &Entry) -> bool {
        let Entry::User { id, generation, disabled, deleted, present, former } = user else { return true };
        if self.by_id.len() >= MAX_USERS && !self.by_id.contains_key(id) {
            return false;
        }
        let standing = Standing { generation: *generation, barred: *disabled || *deleted };
        self.by_id.insert(*id, standing);
        // A former name may be another's now, whose later tokens are good; what happened later counts.
        let former = former.iter().map(|name| (name, false));
        for (name, barred) in former.chain(present.iter().map(|name| (name, *disabled))) {
            let named = Standing { barred, ..standing };
            let known = self.by_name.entry(key(&Fingerprint::of_username(name))).or_insert(named);
            if known.generation <= named.generation {
                *known = named;
            }
        }
        true
    }
}

impl Standing {
    /// Whether a token of this generation, or of none and issued at this second, has ended.
    fn ends(self, generation: Option<i64>, issued_at: Option<i64>) -> bool {
        match (generation, issued_at) {
            (Some(generation), _) => generation < self.generation.saturating_add(self.barred.into()),
            (None, _) if self.barred => true,
            (None, Some(at)) => at <= self.generation,
            // One that does not say when it was issued may be of any time.
            (None, None) => self.generation > 0,
        }
    }
}

impl Existing {
    fn push(&mut self, id: i64) {
        self.count += 1;
        match self.runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(id) => *last = id,
            _ => self.runs.push((id, id)),
        }
    }

    /// Whether a user was surely deleted: absent although a token was issued before the ids were read.
    fn lacks(&self, id: i64, issued_at: Option<i64>) -> bool {
        let next = self.runs.partition_point(|(first, _)| *first <= id);
        let there =
            next.checked_sub(1).and_then(|run| self.runs.get(run)).is_some_and(|(_, last)| id <= *last);
        !there && issued_at.is_none_or(|at| at.saturating_add(CLOCK_SKEW) < self.as_of)
    }
}

fn key(fingerprint: &Fingerprint) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&fingerprint.0[..16]);
    key
}

fn is_past(expires_at: i64, now: u64) -> bool {
    u64::try_from(expires_at).map_or(true, |at| at <= now)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const SECOND: i64 = 1_800_000_000;

    fn token(number: u8, holder: Holder, issued_at: Option<i64>) -> Identity {
        Identity { token: Fingerprint([number; 32]), holder, issued_at, expires_at: SECOND + 10 }
    }

    fn ann(generation: i64) -> Entry {
        Entry::User {
            id: 7,
            generation,
            disabled: false,
            deleted: false,
            present: Some("ann@example.org".to_owned()),
            former: vec!["anna@example.org".to_owned()],
        }
    }

    #[test]
    fn a_token_that_was_logged_out_ends_alone() {
        let list = List::default();
        let user = |number| token(number, Holder::User { id: 7, generation: Some(0) }, Some(SECOND));
        list.note(&user(1).token, SECOND + 10, NOW).unwrap();
        assert!(list.ends(&user(1)));
        assert!(!list.ends(&user(2)));
        list.note(&user(3).token, SECOND, NOW).unwrap();
        assert_eq!(list.tokens(), 1, "what has expired needs no place");
    }

    #[test]
    fn a_generation_ends_the_ones_before_it_whatever_their_time() {
        let list = List::default();
        write(&list.users).add(&ann(SECOND));
        let ends =
            |generation, issued_at| list.ends(&token(1, Holder::User { id: 7, generation }, issued_at));
        assert!(ends(Some(0), Some(SECOND + 99)));
        assert!(!ends(Some(SECOND), Some(SECOND - 99)), "the login after it, by a clock that lags");
        assert!(!ends(Some(SECOND + 1), None), "another pod knows of a later one");
        // Without a generation the time decides, and in doubt against the token.
        assert!(ends(None, Some(SECOND)) && !ends(None, Some(SECOND + 1)) && ends(None, None));
        assert!(!list.ends(&token(1, Holder::User { id: 8, generation: Some(0) }, None)));

        let named = |name: &str, issued_at| {
            list.ends(&token(1, Holder::Username(Fingerprint::of_username(name)), issued_at))
        };
        for name in ["ann@example.org", "anna@example.org"] {
            assert!(named(name, Some(SECOND)) && !named(name, Some(SECOND + 1)), "{name}");
        }
        assert!(!named("bob@example.org", Some(SECOND)));
        assert!(!list.ends(&token(1, Holder::Unknown, None)));
    }

    #[test]
    fn a_user_who_is_disabled_or_deleted_has_no_good_token_until_let_in_again() {
        let list = List::default();
        let with = |disabled: bool, deleted: bool| {
            let Entry::User { id, present, former, .. } = ann(8) else { unreachable!() };
            *write(&list.users) = Users::default();
            let present = present.filter(|_| !deleted);
            let former = [former, vec!["ann@example.org".to_owned()]].concat();
            write(&list.users).add(&Entry::User { id, generation: 8, disabled, deleted, present, former });
            let ends = |holder| list.ends(&token(1, holder, Some(SECOND)));
            let named = ends(Holder::Username(Fingerprint::of_username("ann@example.org")));
            (
                [None, Some(0), Some(8), Some(9)].map(|generation| ends(Holder::User { id: 7, generation })),
                named,
            )
        };
        assert_eq!(with(false, false), ([false, true, false, false], false));
        assert_eq!(with(true, false), ([true, true, true, false], true));
        // The name may be another's, whose tokens are of later.
        assert_eq!(with(false, true), ([true, true, true, false], false));
    }

    #[test]
    fn of_two_users_of_one_name_what_happened_later_counts() {
        let list = List::default();
        let named = |at| {
            list.ends(&token(1, Holder::Username(Fingerprint::of_username("ann@example.org")), Some(at)))
        };
        write(&list.users).add(&ann(SECOND));
        write(&list.users).add(&ann(SECOND - 10));
        assert!(named(SECOND) && !named(SECOND + 1));
    }

    #[test]
    fn a_user_whose_row_is_gone_is_told_from_one_created_since() {
        let mut existing = Existing { as_of: SECOND, ..Existing::default() };
        for id in [-2, 1, 2, 3, 7, 8, i64::MAX] {
            existing.push(id);
        }
        assert_eq!(existing.runs, [(-2, -2), (1, 3), (7, 8), (i64::MAX, i64::MAX)]);
        let long_ago = Some(SECOND - 1000);
        for id in [-2, 1, 2, 3, 7, 8, i64::MAX] {
            assert!(!existing.lacks(id, long_ago), "{id}");
        }
        for id in [i64::MIN, -1, 0, 4, 6, 9] {
            assert!(existing.lacks(id, long_ago), "{id}");
            assert!(!existing.lacks(id, Some(SECOND - CLOCK_SKEW)), "{id}");
        }
    }

    #[test]
    fn a_full_list_takes_no_more_and_says_so() {
        let list = List::default();
        let numbered = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            Fingerprint(bytes)
        };
        for number in 0..MAX_TOKENS {
            list.note(&numbered(number), SECOND + 10, NOW).unwrap();
        }
        assert!(!list.is_full());
        assert_eq!(list.note(&numbered(MAX_TOKENS), SECOND + 10, NOW), Err(Full));
        assert_eq!(list.note(&numbered(0), SECOND + 20, NOW), Ok(()), "it is there already");
        assert!(list.is_full());
    }
}
