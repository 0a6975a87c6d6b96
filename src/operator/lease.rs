//! Leader election by a `coordination.k8s.io/v1` Lease, so that one process at a time writes.
//! Every write of the Lease carries the resourceVersion that was read, so that two candidates can
//! never both take it. Clocks of other machines are not trusted: a Lease has expired when this
//! process has watched it stand still for as long as its holder asked.

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use tokio::time::{Instant, sleep, timeout_at};

/// How the election is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// This process. It must differ from every other one, also from a former one of the same pod.
    pub identity: String,
    /// How long the Lease stands without a renewal before another process may take it; at least 1 s.
    pub ttl: Duration,
}

impl Settings {
    /// How often a holder renews, and the bound for each call on the Lease.
    #[must_use]
    pub fn renewal(&self) -> Duration {
        self.ttl / 3
    }

    /// How often a candidate looks: a released Lease is taken up within this time.
    fn look(&self) -> Duration {
        self.ttl / 15
    }

    /// When a holder that cannot renew gives up: before another may take the Lease.
    fn give_up(&self) -> Duration {
        self.ttl * 5 / 6
    }
}

/// Why a holder holds no more.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// Another process holds the Lease.
    #[error("the lease was taken by {0}")]
    Taken(String),
    /// The Lease was not renewed in time.
    #[error("the lease was not renewed within {} s: {last_error}", .within.as_secs_f32())]
    NotRenewed {
        /// How long was tried.
        within: Duration,
        /// What the last attempt said.
        last_error: String,
    },
}

/// One process's part in the election.
#[derive(Debug, Clone)]
pub struct Election {
    api: Api<Lease>,
    settings: Settings,
}

/// A Lease that this process holds.
#[derive(Debug)]
pub struct Held {
    election: Election,
    lease: Lease,
    /// When the write that was last acknowledged was sent.
    renewed: Instant,
}

impl Election {
    /// Takes part with a client whose calls are bounded by [`Settings::renewal`].
    #[must_use]
    pub fn new(client: Client, settings: Settings) -> Self {
        Self { api: Api::namespaced(client, &settings.namespace), settings }
    }

    /// Waits until this process holds the Lease. Errors of the API server are logged and waited out.
    pub async fn acquire(&self) -> Held {
        let mut seen: Option<(String, Instant)> = None;
        loop {
            match self.look(&mut seen).await {
                Ok(Some(held)) => return held,
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, lease = self.settings.name, "the lease cannot be read or taken");
                }
            }
            sleep(self.settings.look()).await;
        }
    }

    /// One look at the Lease: takes it when it is free or has stood still since `seen` for its time.
    async fn look(&self, seen: &mut Option<(String, Instant)>) -> Result<Option<Held>, kube::Error> {
        let sent = Instant::now();
        let Some(lease) = self.api.get_opt(&self.settings.name).await? else {
            let created = self.api.create(&PostParams::default(), &self.claim(None)).await;
            return self.taken(created, sent);
        };
        if let Some(holder) = holder(&lease) {
            let version = lease.resource_version().unwrap_or_default();
            match seen {
                Some((known, since)) if *known == version => {
                    if since.elapsed() < self.patience(&lease) {
                        return Ok(None);
                    }
                }
                _ => {
                    if seen.is_none() {
                        tracing::info!(holder, lease = self.settings.name, "waiting for the lease");
                    }
                    *seen = Some((version, Instant::now()));
                    return Ok(None);
                }
            }
        }
        let replaced =
            self.api.replace(&self.settings.name, &PostParams::default(), &self.claim(Some(&lease))).await;
        self.taken(replaced, sent)
    }

    fn taken(&self, answer: kube::Result<Lease>, sent: Instant) -> Result<Option<Held>, kube::Error> {
        match answer {
            Ok(lease) => Ok(Some(Held { election: self.clone(), lease, renewed: sent })),
            // Another candidate was faster.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How long a Lease must stand still: as long as its holder asked, or as we would.
    fn patience(&self, lease: &Lease) -> Duration {
        let asked = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        asked.and_then(|seconds| u64::try_from(seconds).ok()).map_or(self.settings.ttl, Duration::from_secs)
    }

    /// The Lease in this process's hands, over what it was before.
    fn claim(&self, before: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let spec = before.and_then(|lease| lease.spec.as_ref());
        let ours = before.and_then(holder) == Some(self.settings.identity.as_str());
        let transitions = spec.and_then(|spec| spec.lease_transitions).unwrap_or(0);
        Lease {
            metadata: before.map_or_else(
                || ObjectMeta { name: Some(self.settings.name.clone()), ..ObjectMeta::default() },
                |lease| lease.metadata.clone(),
            ),
            spec: Some(LeaseSpec {
                holder_identity: Some(self.settings.identity.clone()),
                lease_duration_seconds: i32::try_from(self.settings.ttl.as_secs().max(1)).ok(),
                acquire_time: spec
                    .filter(|_| ours)
                    .and_then(|spec| spec.acquire_time.clone())
                    .or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(transitions.saturating_add(i32::from(before.is_some() && !ours))),
                ..LeaseSpec::default()
            }),
        }
    }
}

impl Held {
    /// Renews until the Lease is lost; returns only then.
    pub async fn keep(&mut self) -> Lost {
        loop {
            sleep(self.election.settings.renewal()).await;
            if let Err(lost) = self.renew().await {
                return lost;
            }
        }
    }

    /// Renews once, repeating until the time is nearly over.
    async fn renew(&mut self) -> Result<(), Lost> {
        let within = self.election.settings.give_up();
        let deadline = self.renewed + within;
        let mut last_error = "no answer".to_owned();
        loop {
            match timeout_at(deadline, self.try_renew()).await {
                Err(_elapsed) => return Err(Lost::NotRenewed { within, last_error }),
                Ok(Ok(Some(taker))) => return Err(Lost::Taken(taker)),
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the lease was not renewed yet");
                    last_error = error.to_string();
                }
            }
            sleep(self.election.settings.look()).await;
        }
    }

    /// One attempt; answers who has taken the Lease, if anybody.
    async fn try_renew(&mut self) -> Result<Option<String>, kube::Error> {
        let (api, name) = (&self.election.api, &self.election.settings.name);
        let sent = Instant::now();
        match api.replace(name, &PostParams::default(), &self.election.claim(Some(&self.lease))).await {
            Ok(lease) => {
                self.lease = lease;
                self.renewed = sent;
                return Ok(None);
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
            Err(error) => return Err(error),
        }
        // Somebody edited or deleted the Lease, or an earlier renewal was written but its answer lost.
        let Some(found) = api.get_opt(name).await? else {
            return Ok(Some("nobody: it was deleted".to_owned()));
        };
        match holder(&found) {
            Some(holder) if holder == self.election.settings.identity => {
                self.lease = found;
                Err(kube::Error::Service("the lease was changed by somebody else".into()))
            }
            other => Ok(Some(other.unwrap_or("nobody").to_owned())),
        }
    }

    /// Gives the Lease away, so that another process takes it at once. One that cannot be released
    /// expires.
    pub async fn release(self) -> Result<(), kube::Error> {
        let Self { election, lease, renewed: _ } = self;
        match election.release(lease).await {
            // The answer to the last renewal did not arrive, or somebody edited the Lease.
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                let found = election.api.get(&election.settings.name).await?;
                if holder(&found) == Some(election.settings.identity.as_str()) {
                    election.release(found).await?;
                }
                Ok(())
            }
            released => released,
        }
    }
}

impl Election {
    async fn release(&self, mut lease: Lease) -> Result<(), kube::Error> {
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        self.api.replace(&self.settings.name, &PostParams::default(), &lease).await?;
        Ok(())
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
