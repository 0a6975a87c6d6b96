//! Whether the database has room for what is written. Reads go on without, and so does much of what
//! is written into room that is there already: only what was refused tells of it.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::StoreError;

/// How long a write that found no room is told of: longer than it takes the operator to hear of it, and no
/// longer than a person waits for the good news.
const TOLD_FOR: Duration = Duration::from_secs(30);

/// The last write that found no room.
#[derive(Debug, Default)]
pub(super) struct Room(Mutex<Option<(Instant, StoreError)>>);

impl Room {
    /// Takes note of what a write was refused for, if that was want of room.
    pub(super) fn note(&self, error: &StoreError, now: Instant) {
        if !is_want_of_room(error) {
            return;
        }
        let words = format!("what needs more room on its disk is refused: {}", error.words);
        let told = StoreError { words, ..error.clone() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, told));
    }

    /// What a write was refused for lately.
    pub(super) fn lacking(&self, now: Instant) -> Option<StoreError> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, error) = noted.as_ref()?;
        (now.saturating_duration_since(*at) < TOLD_FOR).then(|| error.clone())
    }
}

/// Disk full, table or tablespace full, and a file that could not be written for the system's error 28.
fn is_want_of_room(error: &StoreError) -> bool {
    match error.number {
        Some(1021 | 1114 | 3675) => true,
        Some(3 | 1026 | 1030) => {
            error.words.contains("No space left")
                || error.words.contains("errno 28")
                || error.words.contains("error 28")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::DatabaseFault;

    fn refused(number: u16, words: &str) -> StoreError {
        StoreError { number: Some(number), ..StoreError::new(DatabaseFault::DatabaseError, words) }
    }

    #[test]
    fn a_full_table_is_told_of_for_a_while() {
        let (room, now) = (Room::default(), Instant::now());
        assert_eq!(room.lacking(now), None);
        room.note(&refused(1114, "The table 'user' is full (error 1114)"), now);
        let told = room.lacking(now + TOLD_FOR / 2);
        let words = "what needs more room on its disk is refused: The table 'user' is full (error 1114)";
        assert_eq!(told, Some(refused(1114, words)));
        assert_eq!(room.lacking(now + TOLD_FOR), None);
    }

    #[test]
    fn other_refusals_are_no_want_of_room() {
        let (room, now) = (Room::default(), Instant::now());
        for error in [
            refused(1062, "Duplicate entry '28' for key 'email' (error 1062)"),
            refused(
                1030,
                "Got error 168 - 'Unknown (generic) error from engine' from storage engine (error 1030)",
            ),
            StoreError::timed_out(Duration::from_secs(3)),
        ] {
            room.note(&error, now);
            assert_eq!(room.lacking(now), None, "{error}");
        }
        for error in [
            refused(1021, "Disk full (/tmp/#sql); waiting for someone to free some space (error 1021)"),
            refused(1030, "Got error 28 \"No space left on device\" from storage engine InnoDB (error 1030)"),
            refused(3, "Error writing file '/tmp/MLx' (OS errno 28 - No space left on device) (error 3)"),
        ] {
            let room = Room::default();
            room.note(&error, now);
            assert!(room.lacking(now).is_some(), "{error}");
        }
    }
}
