//! Locks that a panic elsewhere can't disable.
//!
//! The standard library poisons a lock when its holder panics, and every later `lock()` returns an
//! error. A lane or the runtime of tokio catches such a panic and reports it; one failed task must
//! not make every later user of the lock fail as well, so these methods take the guard out of the
//! error. Every module that shares state between threads calls them instead of `lock()`, `read()`
//! and `write()`.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Acquires a [`Mutex`], poisoned or not.
pub(crate) trait LockExt<T> {
    /// Blocks until the lock is free and returns its guard.
    fn locked(&self) -> MutexGuard<'_, T>;
}

impl<T> LockExt<T> for Mutex<T> {
    fn locked(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Acquires a [`RwLock`], poisoned or not.
pub(crate) trait RwLockExt<T> {
    /// Blocks until no writer holds the lock and returns a shared guard.
    fn read_locked(&self) -> RwLockReadGuard<'_, T>;

    /// Blocks until the lock is free and returns the exclusive guard.
    fn write_locked(&self) -> RwLockWriteGuard<'_, T>;
}

impl<T> RwLockExt<T> for RwLock<T> {
    fn read_locked(&self) -> RwLockReadGuard<'_, T> {
        self.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_locked(&self) -> RwLockWriteGuard<'_, T> {
        self.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_stay_usable_after_a_holder_panicked() {
        let (mutex, shared) = (Mutex::new(1), RwLock::new(1));
        let panicked = std::thread::scope(|scope| {
            let holder = scope.spawn(|| {
                let (_mutex, _shared) = (mutex.locked(), shared.write_locked());
                panic!("the holder panics");
            });
            holder.join().is_err()
        });
        assert!(panicked && mutex.is_poisoned() && shared.is_poisoned());
        *mutex.locked() += 1;
        *shared.write_locked() += 1;
        assert_eq!((*mutex.locked(), *shared.read_locked()), (2, 2));
    }
}
