//! The memory Argon2 works in. It is kept from one computation to the next: to have the system give and
//! clear it anew takes a tenth of the time, and an allocator that keeps what is given back, for each
//! thread and each size, lets a process grow to many times what it uses.

use std::sync::{Mutex, PoisonError};

use argon2::Block;

/// The memory of this process's computations.
static SHARED: Scratch = Scratch(Mutex::new(State { kept_kib: 0, running: 0, idle: Vec::new() }));

struct Scratch(Mutex<State>);

struct State {
    /// A larger piece is not kept.
    kept_kib: u32,
    running: usize,
    idle: Vec<Vec<Block>>,
}

/// From now on each computation's memory is kept for the next, unless it is more than this.
pub(super) fn keep_up_to(kib: u32) {
    SHARED.keep_up_to(kib);
}

/// Runs a computation in so many blocks of 1 KiB.
pub(super) fn with_blocks<T>(count: usize, computation: impl FnOnce(&mut [Block]) -> T) -> T {
    let mut blocks = SHARED.take(count);
    let result = computation(&mut blocks[..count]);
    SHARED.put(blocks);
    result
}

impl Scratch {
    fn keep_up_to(&self, kib: u32) {
        self.state().kept_kib = kib;
    }

    fn take(&self, count: usize) -> Vec<Block> {
        let kept = {
            let mut state = self.state();
            state.running += 1;
            // What is too small gives way: the next one is as large as this.
            if count <= state.kept_kib as usize { state.idle.pop() } else { None }
        };
        kept.filter(|blocks| blocks.len() >= count).unwrap_or_else(|| vec![Block::new(); count])
    }

    fn put(&self, blocks: Vec<Block>) {
        let mut state = self.state();
        state.running = state.running.saturating_sub(1);
        // As many as are at work, and one: what a burst took goes when the burst does.
        if blocks.len() <= state.kept_kib as usize {
            state.idle.push(blocks);
        }
        let most = state.running + 1;
        state.idle.truncate(most);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_kept_up_to_a_size_and_for_as_many_as_work_at_a_time() {
        let scratch = Scratch(Mutex::new(State { kept_kib: 0, running: 0, idle: Vec::new() }));
        let kept = || scratch.state().idle.iter().map(Vec::len).collect::<Vec<_>>();
        scratch.put(scratch.take(10));
        assert_eq!(kept(), [0; 0], "nobody asked for it");
        scratch.keep_up_to(10);
        scratch.put(scratch.take(10));
        assert_eq!(kept(), [10]);
        let smaller = scratch.take(4);
        assert_eq!((smaller.len(), kept()), (10, vec![]), "the same again");
        scratch.put(smaller);
        let dear = scratch.take(11);
        assert_eq!((dear.len(), kept()), (11, vec![10]));
        scratch.put(dear);
        assert_eq!(kept(), [10]);
        let [one, two, three] = [1, 2, 3].map(|_| scratch.take(10));
        scratch.put(one);
        scratch.put(two);
        assert_eq!(kept(), [10, 10], "one is at work, and one more may come");
        scratch.put(three);
        for blocks in [1, 2, 3, 4].map(|_| scratch.take(10)) {
            scratch.put(blocks);
        }
        assert_eq!(kept(), [10], "a burst leaves one");
    }
}
