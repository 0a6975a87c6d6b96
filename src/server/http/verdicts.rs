//! Tokens that verified lately: one that is shown again costs no signature.
//!
//! Only what cannot change is kept, and no refusal. Whether a token is in its time, its key still in use
//! and nothing of it revoked is asked each time.

use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use super::identity;
use crate::server::{
    metrics::Metrics,
    tokens::{self, KeyRing, Terms, TokenFault, Verified},
};

/// Most bytes kept.
const CAPACITY: u64 = 8 << 20;
/// What a token of this service takes: the basis of what the cache lays out in advance.
const USUAL_BYTES: u64 = 1 << 10;

/// Parts with a lock and a share of the bytes each. By default there are more on more CPUs, and a large
/// token may then fit into none.
const SHARDS: usize = 16;

/// A token that verified, and what is answered to it.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) token: Verified,
    pub(super) names: [(HeaderName, HeaderValue); 3],
}

impl Verdict {
    fn of(token: Verified) -> Self {
        let names = identity::headers(token.subject.as_deref(), token.username.as_deref());
        Self { token, names }
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Box<str>, Arc<Verdict>> for ByBytes {
    fn weight(&self, token: &Box<str>, verdict: &Arc<Verdict>) -> u64 {
        let names = verdict.names.iter().map(|(_, value)| value.len()).sum::<usize>();
        // The names once more as text, and what the cache and the allocator add.
        let bytes = token.len() + verdict.token.claims.len() + 2 * names + size_of::<Verdict>() + 128;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

/// The tokens that verified lately.
#[derive(Debug)]
pub struct Verdicts {
    kept: Cache<Box<str>, Arc<Verdict>, ByBytes>,
}

impl Default for Verdicts {
    fn default() -> Self {
        let items = usize::try_from(CAPACITY / USUAL_BYTES).unwrap_or(usize::MAX);
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(items).weight_capacity(CAPACITY).shards(SHARDS);
        // Both amounts are given, which is all that can be missing.
        let kept = options.build().map_or_else(
            |_| Cache::with_weighter(items, CAPACITY, ByBytes),
            |options| {
                Cache::with_options(
                    options,
                    ByBytes,
                    DefaultHashBuilder::default(),
                    DefaultLifecycle::default(),
                )
            },
        );
        Self { kept }
    }
}

impl Verdicts {
    /// Verifies `token` at `now` (seconds since the epoch) as [`tokens::verify`] does.
    ///
    /// # Errors
    /// The first fault found.
    pub(super) fn verify(
        &self,
        ring: &KeyRing,
        terms: &Terms,
        token: &str,
        now: u64,
        metrics: &Metrics,
    ) -> Result<Arc<Verdict>, TokenFault> {
        if let Some(verdict) = self.kept.get(token)
            && verdict.token.holds(ring, now)
        {
            metrics.known_again();
            return Ok(verdict);
        }
        let verdict = Arc::new(Verdict::of(tokens::verify(ring, terms, token, now)?));
        self.kept.insert(token.into(), Arc::clone(&verdict));
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::server::tokens::{Identity, Subject, issue};

    const NOW: u64 = 1_800_000_000;
    const SIGNS: (&str, &str) = ("a.signs", "2020-01-01T00:00:00Z");
    const SECRET: (&str, &str) = ("a.key", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaA");
    const ANOTHER: (&str, &str) = ("a.key", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbB");
    const SECOND: [(&str, &str); 2] =
        [("b.key", "ccccccccccccccccccccccccccccccccC"), ("b.signs", "2021-01-01T00:00:00Z")];
    const RETIRED: (&str, &str) = ("a.retire-after", "2027-01-15T08:00:05Z");

    fn ring(entries: &[(&str, &str)]) -> KeyRing {
        let entries: BTreeMap<_, _> =
            entries.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        KeyRing::from_entries(&entries, NOW).unwrap()
    }

    fn terms() -> Terms {
        Terms { issuer: "authservice".to_owned(), audience: None, ttl_seconds: 10 }
    }

    fn token(ring: &KeyRing, username: &str, now: u64) -> String {
        issue(ring, &terms(), &Subject { id: 7, username, admin: false, generation: 3 }, now).unwrap()
    }

    fn answer(verdict: &Verified) -> (&[u8], &Identity) {
        (&verdict.claims, &verdict.identity)
    }

    /// Every change of keys and clock between two looks at a token.
    #[test]
    fn a_token_seen_before_is_judged_as_one_that_was_not() {
        let rings = [
            ring(&[SECRET, SIGNS]),
            ring(&[SECRET, SIGNS, SECOND[0], SECOND[1]]),
            ring(&[SECRET, SIGNS, SECOND[0], SECOND[1], RETIRED]),
            ring(&[ANOTHER, SIGNS]),
            ring(&SECOND),
        ];
        let tokens =
            [token(&rings[0], "ann", NOW), token(&rings[1], "ann", NOW), token(&rings[3], "ann", NOW)];
        let times = [NOW - 60, NOW, NOW + 6, NOW + 10];
        let states = || rings.iter().flat_map(|ring| times.map(|now| (ring, now)));
        for token in &tokens {
            for ((first, then), (second, now)) in
                states().flat_map(|before| states().map(move |after| (before, after)))
            {
                let (verdicts, metrics) = (Verdicts::default(), Metrics::default());
                let _ = verdicts.verify(first, &terms(), token, then, &metrics);
                let found = verdicts.verify(second, &terms(), token, now, &metrics);
                let expected = tokens::verify(second, &terms(), token, now);
                assert_eq!(
                    found.as_ref().map(|verdict| answer(&verdict.token)),
                    expected.as_ref().map(answer)
                );
            }
        }
    }

    #[test]
    fn a_token_is_known_again_and_a_refused_one_is_not_kept() {
        let (ring, verdicts, metrics) = (ring(&[SECRET, SIGNS]), Verdicts::default(), Metrics::default());
        let good = token(&ring, "ann", NOW);
        let forged = format!("{}A", &good[..good.len() - 1]);
        let first = verdicts.verify(&ring, &terms(), &good, NOW, &metrics).unwrap();
        assert!(Arc::ptr_eq(&first, &verdicts.verify(&ring, &terms(), &good, NOW, &metrics).unwrap()));
        assert!(verdicts.verify(&ring, &terms(), &forged, NOW, &metrics).is_err());
        assert_eq!(verdicts.kept.len(), 1);
    }

    #[test]
    fn however_many_tokens_come_what_is_kept_stays_within_bounds() {
        let (ring, verdicts, metrics) = (ring(&[SECRET, SIGNS]), Verdicts::default(), Metrics::default());
        for length in [10, 1_000, 4_000].into_iter().cycle().take(12_000) {
            let token = token(&ring, &"a".repeat(length), NOW);
            verdicts.verify(&ring, &terms(), &token, NOW, &metrics).unwrap();
        }
        assert!(verdicts.kept.weight() <= CAPACITY, "{}", verdicts.kept.weight());
        assert!(verdicts.kept.weight() > CAPACITY / 2, "{}", verdicts.kept.weight());
    }
}
