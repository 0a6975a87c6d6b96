//! What a starting server learns from the table: the dearest hashes in it, before the first login
//! against one of them would show by its time that the user exists.

use std::{sync::Arc, time::Duration};

use super::{
    config::PasswordPolicy,
    passwords::{Floor, HashingPool, Kdf, accepted_kdfs},
    store::Store,
};

/// Between two attempts while the database is away.
const RETRY: Duration = Duration::from_secs(5);
/// Measurements of each function, of which the middle one counts: a pod that starts is often disturbed,
/// and what no login measures again stands for as long as the pod.
const MEASUREMENTS: usize = 3;

/// Reads once what hashes the table holds, and measures the dearest of each function. Nothing waits
/// for it.
pub(super) async fn raise_floor(
    store: Arc<Store>,
    pool: Arc<HashingPool>,
    floor: Arc<Floor>,
    policy: PasswordPolicy,
) {
    let found = loop {
        match store.password_parameters().await {
            Ok(found) => break found,
            Err(error) => {
                tracing::debug!(%error, "the forms of stored passwords are not known yet");
                tokio::time::sleep(RETRY).await;
            }
        }
    };
    let kdfs = found.iter().flat_map(|form| accepted_kdfs(form, policy.legacy, pool.most_kib()));
    for kdf in dearest(kdfs) {
        if let Some(took) = measure(&pool, kdf).await {
            floor.record(kdf, took);
        }
    }
    tracing::info!(forms = found.len(), floor = ?floor.current(), "forms of stored passwords known");
}

async fn measure(pool: &HashingPool, kdf: Kdf) -> Option<Duration> {
    let mut times = Vec::with_capacity(MEASUREMENTS);
    for _ in 0..MEASUREMENTS {
        times.extend(
            pool.run(kdf.memory_kib(), move || kdf.measure()).await.ok().and_then(|run| run.result.ok()),
        );
    }
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// The dearest of each function.
fn dearest(kdfs: impl Iterator<Item = Kdf>) -> Vec<Kdf> {
    let mut dearest: Vec<Kdf> = Vec::new();
    for kdf in kdfs {
        match dearest.iter_mut().find(|known| known.is_like(kdf)) {
            Some(known) if known.work() < kdf.work() => *known = kdf,
            Some(_) => {}
            None => dearest.push(kdf),
        }
    }
    dearest
}

#[cfg(test)]
mod tests {
    use super::{super::passwords::Digest, *};

    #[test]
    fn one_of_each_function_is_measured() {
        let pbkdf2 = |digest, iterations| Kdf::Pbkdf2 { digest, iterations };
        let kdfs = [
            Kdf::Bcrypt { cost: 10 },
            pbkdf2(Digest::Sha256, 600_000),
            Kdf::Bcrypt { cost: 12 },
            Kdf::Bcrypt { cost: 11 },
            pbkdf2(Digest::Sha512, 1000),
            pbkdf2(Digest::Sha256, 260_000),
        ];
        assert_eq!(
            dearest(kdfs.into_iter()),
            [Kdf::Bcrypt { cost: 12 }, pbkdf2(Digest::Sha256, 600_000), pbkdf2(Digest::Sha512, 1000)]
        );
    }
}
