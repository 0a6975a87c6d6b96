//! What a fault must leave as it was, and what callers may notice of it.

use std::collections::BTreeMap;

use anyhow::Context as _;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Pod, Secret},
};
use kube::{ResourceExt as _, api::ListParams};
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;

use super::{
    clients::{self, Credentials, admin, claims, token},
    cluster::Sandbox,
    load::{Load, Outcome, Outcomes, Request},
    node::{eventually, managed_sql},
    normal::{State, differences, state, wait_for_state},
};

const VALIDATIONS_A_SECOND: u32 = 40;
const LOGINS_A_SECOND: u32 = 2;
/// Secrets whose entries are written once, by the ends of their names.
const WRITTEN_ONCE: [&str; 4] = ["keys", "database", "admin", "mysql-root"];

/// What callers meet where nobody can answer, and not where somebody answers wrongly.
pub const NO_ANSWER: [&str; 5] =
    ["Connection refused", "Connection reset", "No route", "connection closed", "operation timed out"];

/// The randomness of a test; the seed is printed, and taken from `TEST_SEED` where that is set.
#[must_use]
pub fn random() -> StdRng {
    let given = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Callers of a service, from before a fault until after it.
pub struct Traffic {
    validations: Load,
    logins: Load,
}

/// What callers met.
pub struct Met {
    pub validations: Outcomes,
    pub logins: Outcomes,
}

/// When something else than success is an answer, and which.
#[derive(Clone, Copy, Debug)]
pub struct Allowed<'a> {
    pub from: Instant,
    pub to: Instant,
    /// Beginnings of what may be met.
    pub what: &'a [&'a str],
}

impl Traffic {
    /// Validates one token, of before, and logs in one user, all the time.
    ///
    /// # Errors
    /// When nobody can log in now.
    pub async fn start(sandbox: &Sandbox, service: &str) -> anyhow::Result<Self> {
        let address = clients::address(sandbox, service).await?;
        let Credentials { email, password } = admin(sandbox, service).await?;
        let token = token(&address, &Credentials::new(&email, &password)).await?;
        let validate = Request::Validate { address: address.clone(), token };
        let login = Request::Login { address, email, password };
        Ok(Self {
            validations: Load::start(validate, VALIDATIONS_A_SECOND)?,
            logins: Load::start(login, LOGINS_A_SECOND)?,
        })
    }

    /// Ends, prints what was met and answers it.
    ///
    /// # Errors
    /// When a load broke down.
    pub async fn stop(self, of: &str) -> anyhow::Result<Met> {
        let (validations, logins) = (self.validations.stop().await?, self.logins.stop().await?);
        for (what, met) in [("validations", &validations), ("logins", &logins)] {
            println!(
                "{of}: {what} {:?}, longest gap {:?}, slowest {:?}",
                met.counts,
                met.longest_gap(),
                met.slowest
            );
        }
        Ok(Met { validations, logins })
    }
}

/// Refuses every outcome but success that is not allowed.
///
/// # Errors
/// With the first of those there are.
pub fn only(outcomes: &Outcomes, allowed: &[Allowed<'_>]) -> anyhow::Result<()> {
    let is_allowed = |request: &Outcome| {
        allowed.iter().any(|allowed| {
            let named = allowed.what.iter().any(|what| request.what.starts_with(what));
            named && request.ended >= allowed.from && request.began <= allowed.to
        })
    };
    let bad = outcomes.requests.iter().filter(|request| request.what != "200" && !is_allowed(request));
    let bad: Vec<&Outcome> = bad.collect();
    let Some(first) = bad.first() else { return Ok(()) };
    let since = |at: Instant| allowed.first().map(|allowed| at.saturating_duration_since(allowed.from));
    anyhow::bail!(
        "{} of {} requests met what they should not; the first: {:?}, begun {:?} and ended {:?} into the fault",
        bad.len(),
        outcomes.requests.len(),
        first.what,
        since(first.began),
        since(first.ended)
    )
}

/// A service as it was before a fault.
pub struct Before {
    name: String,
    user: Credentials,
    token: String,
    secrets: BTreeMap<String, BTreeMap<String, ByteString>>,
    state: State,
    rows: String,
    pods: BTreeMap<String, usize>,
}

impl Before {
    /// Looks at a service that is ready and at rest.
    ///
    /// # Errors
    /// When it is not.
    pub async fn of(sandbox: &Sandbox, name: &str) -> anyhow::Result<Self> {
        let user = admin(sandbox, name).await?;
        let token = token(&clients::address(sandbox, name).await?, &user).await?;
        Ok(Self {
            name: name.to_owned(),
            token,
            user,
            secrets: written_once(sandbox, name).await?,
            state: state(&sandbox.client, &sandbox.namespace).await?,
            rows: rows(sandbox, name).await?,
            pods: pods(sandbox).await?,
        })
    }

    /// Waits until nothing tells of the fault: the same objects and as many pods, ready as the
    /// present generation wants it, no entry of a Secret rewritten, the same rows, and tokens and
    /// passwords of before good.
    ///
    /// # Errors
    /// With what differs.
    pub async fn again(&self, sandbox: &Sandbox) -> anyhow::Result<()> {
        sandbox.wait_ready(&self.name).await?;
        wait_for_state(sandbox, "the state of before", &self.state).await?;
        eventually("the pods of before", &self.pods, async || pods(sandbox).await).await?;
        let same = written_once(sandbox, &self.name).await? == self.secrets;
        anyhow::ensure!(same, "an entry of a Secret was rewritten");
        let rows = rows(sandbox, &self.name).await?;
        anyhow::ensure!(rows == self.rows, "other rows:\n{rows}\nbefore:\n{}", self.rows);
        self.serves(sandbox).await
    }

    /// Waits until the objects of these services are as they were, and none of theirs is left over.
    ///
    /// # Errors
    /// With what differs.
    pub async fn objects_again(&self, sandbox: &Sandbox, services: &[&str]) -> anyhow::Result<()> {
        let of_these = |state: &State| {
            let belongs = |key: &str| {
                let name = key.rsplit(' ').next().unwrap_or_default();
                services.iter().any(|service| {
                    name.strip_prefix("data-").unwrap_or(name).split('-').next() == Some(service)
                })
            };
            let mut state = state.clone();
            state.retain(|key, _| belongs(key));
            state
        };
        let wanted = of_these(&self.state);
        eventually("the objects of before", &String::new(), async || {
            let live = of_these(&state(&sandbox.client, &sandbox.namespace).await?);
            Ok(differences(&wanted, &live))
        })
        .await
    }

    /// Whether tokens and passwords of before are good.
    ///
    /// # Errors
    /// When they are not.
    pub async fn serves(&self, sandbox: &Sandbox) -> anyhow::Result<()> {
        let address = clients::address(sandbox, &self.name).await?;
        let claims = claims(&address, &self.token).await?;
        anyhow::ensure!(claims["username"] == self.user.email.as_str(), "another's claims: {claims}");
        token(&address, &self.user).await.map(drop)
    }
}

async fn written_once(
    sandbox: &Sandbox,
    name: &str,
) -> anyhow::Result<BTreeMap<String, BTreeMap<String, ByteString>>> {
    let mut all = BTreeMap::new();
    for end in WRITTEN_ONCE {
        let secret = sandbox.api::<Secret>().get(&format!("{name}-{end}")).await?;
        all.insert(secret.name_any(), secret.data.context("a Secret without data")?);
    }
    Ok(all)
}

/// Users, and all that is kept about them.
async fn rows(sandbox: &Sandbox, name: &str) -> anyhow::Result<String> {
    const ROWS: &str = "SELECT user.id, email, password, admin, disabled, generation FROM auth.user AS user
        LEFT JOIN auth.authservice_user AS rights ON rights.user_id = user.id
        LEFT JOIN auth.authservice_access AS access ON access.user_id = user.id ORDER BY user.id";
    managed_sql(sandbox, name, ROWS).await
}

/// How many pods there are of each part, however they are doing, and how many of them are ready.
async fn pods(sandbox: &Sandbox) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for pod in sandbox.api::<Pod>().list(&ListParams::default()).await? {
        let part = pod.labels().get("app.kubernetes.io/component").cloned().unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        let ready = if clients::pod_is_ready(&pod) { "ready" } else { "not ready" };
        *counts.entry(format!("{part}: {phase}, {ready}")).or_default() += 1;
    }
    Ok(counts)
}
