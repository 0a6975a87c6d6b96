//! Keeps every `AuthService` running: gather -> validate -> build -> apply -> report.

use std::{sync::Arc, time::Duration};

use kube::{core::DeserializeGuard, runtime::controller::Action};

use self::{
    apply::{apply, seen},
    build::build,
    fresh::Fresh,
    gather::{Observed, gather, gather_service},
    names::Identity,
    report::report,
    status::View,
    validate::{Inputs, lacking_algorithm, validate},
};
use super::{
    context::{Context, ObjectKey, Verdict},
    signing_key,
};
use crate::api::{AuthService, AuthServiceStatus, conditions::ConditionType};

pub mod apply;
pub mod build;
pub mod claim;
pub mod diff;
pub mod events;
#[cfg(test)]
mod fixture;
pub mod fresh;
pub mod gather;
pub mod jobs;
pub mod live;
pub mod names;
pub mod ownership;
pub mod plan;
pub mod pods;
pub mod quantity;
pub mod refusal;
pub mod report;
pub mod secret_patch;
pub mod status;
pub mod validate;

/// How soon a resource that is not ready is looked at again, though no watch told of a change: what
/// its pods wait for changes without one, and so does a stranger's object in the place of a child.
const UNREADY: Duration = Duration::from_secs(15);

/// How soon a resource is looked for again that the watch knows and a read does not find: the read may
/// have come from an API server that lags. One that is gone is not looked for twice.
const UNSEEN: Duration = Duration::from_secs(15);

/// Why a run ended early. It is tried again under the object's backoff.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The object does not fit this release's schema.
    #[error(
        "the AuthService cannot be decoded: {0}: install the CustomResourceDefinition of this release, or correct the object"
    )]
    Undecodable(String),
    /// The object carries no uid or namespace, as every stored object does.
    #[error("the AuthService carries no namespace or uid")]
    Incomplete,
    /// Something could not be read.
    #[error("could not read {what}: {source}")]
    Read {
        /// Kind and name.
        what: String,
        /// The client's error.
        source: kube::Error,
    },
    /// No random numbers are to be had.
    #[error("a signing key could not be made: the system's generator of random numbers fails")]
    KeyGeneration,
    /// Status could not be written.
    #[error("could not write the status of AuthService {name}: {source}")]
    Status {
        /// Its name.
        name: String,
        /// The client's error.
        source: kube::Error,
    },
}

impl Error {
    /// Whether somebody changed or deleted the resource between reading and writing.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { source: kube::Error::Api(status), .. } if matches!(status.code, 404 | 409))
    }
}

/// One run for one resource.
pub async fn reconcile(
    object: Arc<DeserializeGuard<AuthService>>,
    ctx: Arc<Context>,
) -> Result<Action, Error> {
    let cached = object.0.as_ref().map_err(|invalid| Error::Undecodable(invalid.error.clone()))?;
    let key = ObjectKey::of(cached);
    let Some(service) = gather_service(&ctx, &key).await? else {
        ctx.forget(&key);
        return Ok(Action::requeue(UNSEEN));
    };
    if service.metadata.deletion_timestamp.is_some() {
        // Garbage collection takes the children; what is to outlive them has no owner.
        return Ok(Action::requeue(UNSEEN));
    }
    let identity = Identity::of(&service).ok_or(Error::Incomplete)?;
    let observed = Box::pin(gather(&ctx, &service, &identity)).await?;
    let fresh = Fresh::draw(&ctx.surroundings, private_key(&ctx, &service, &observed).await?);
    let decision = validate(&Inputs {
        service: &service,
        spec: &service.spec,
        identity: &identity,
        observed: &observed,
        images: &ctx.images,
        fresh: &fresh,
    });
    let outcome = if service.spec.suspend == Some(true) {
        seen(&decision.plan, &observed)
    } else {
        Box::pin(apply(&ctx.client, &decision.plan, build(&decision.plan), &observed)).await
    };
    let view = View {
        service: &service,
        observed: &observed,
        decision: &decision,
        outcome: &outcome,
        now: fresh.now,
    };
    let status = match report(&ctx, &view).await {
        Ok(status) => status,
        Err(error) if error.is_conflict() => {
            tracing::debug!(%error, "the resource was changed or deleted meanwhile");
            return Ok(ctx.retry_after_conflict(&key));
        }
        Err(error) => return Err(error),
    };
    if outcome.again || view.refusals().next().is_some() {
        return Ok(ctx.retry_within(&key, UNREADY));
    }
    let settled = ctx.settled(&key);
    Ok(next_look(&ctx, settled, &view, &status))
}

/// A new private key, where the ring lacks one of the algorithm that spec names.
async fn private_key(
    ctx: &Context,
    service: &AuthService,
    observed: &Observed,
) -> Result<Option<String>, Error> {
    let ring = observed.key_ring.as_ref();
    let Some(algorithm) = lacking_algorithm(&service.spec, ring, ctx.surroundings.now()) else {
        return Ok(None);
    };
    match tokio::task::spawn_blocking(move || signing_key::generate(algorithm)).await {
        Ok(Ok(key)) => Ok(key),
        _ => Err(Error::KeyGeneration),
    }
}

/// When to look again: `settled`, or sooner when something is known to change by itself.
fn next_look(ctx: &Context, settled: Action, view: &View<'_>, status: &AuthServiceStatus) -> Action {
    let View { observed, decision, now, .. } = view;
    let ready = status
        .conditions
        .iter()
        .any(|condition| condition.type_ == ConditionType::Ready.as_str() && condition.status == "True");
    // A complaint that is as yet too young to count is not reported a second time.
    let complaint = observed.verdicts.values().any(|verdict| match verdict {
        Verdict::Answered { status, .. } => status.database.fault.is_some(),
        Verdict::Unknown => false,
    });
    let unready = (!ready || complaint).then(|| ctx.surroundings.jittered(UNREADY));
    let signs =
        decision.next_signer_at.map(|at| Duration::try_from(at.duration_since(*now)).unwrap_or_default());
    let soonest = [unready, observed.retry_in.filter(|_| !ready), signs].into_iter().flatten().min();
    // A moment later than the change itself, so that it has happened.
    soonest.map_or(settled, |soonest| Action::requeue(soonest + Duration::from_millis(200)))
}
