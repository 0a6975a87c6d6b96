//! Writes through the administration API, one after the other: users created and their passwords
//! changed, with what was acknowledged, to be compared with what is there in the end.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Service;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

use super::{
    clients::exec,
    cluster::Sandbox,
    load::{Outcome, Outcomes},
    node::managed_sql,
};

const PERIOD: Duration = Duration::from_millis(20);
/// Longer than any answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Writes that go on until they are stopped.
pub struct Writes {
    stop: watch::Sender<bool>,
    task: JoinHandle<Written>,
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    pub outcomes: Outcomes,
    /// By e-mail.
    users: BTreeMap<String, Versions>,
}

/// Which hashes of one user there can be: any from the one that was acknowledged last to the one
/// that was tried last.
#[derive(Debug, Default)]
struct Versions {
    acknowledged: Option<u32>,
    tried: u32,
}

impl Writes {
    /// Begins, for a service whose administration is open.
    ///
    /// # Errors
    /// When it is not.
    pub async fn start(sandbox: &Sandbox, service: &str) -> anyhow::Result<Self> {
        let port = sandbox.api::<Service>().get(&format!("{service}-administration")).await?;
        let ip = port.spec.and_then(|spec| spec.cluster_ip).context("the Service has no address")?;
        let command = ["/auth-server", "admin-token", "--ttl", "1h"];
        let token = exec(sandbox, &format!("deployment/{service}"), &command, "").await?;
        let api = Api {
            http: reqwest::Client::builder().pool_max_idle_per_host(0).timeout(TIMEOUT).build()?,
            users: format!("http://{ip}:5001/admin/users"),
            token: token.trim().to_owned(),
        };
        let (stop, stopped) = watch::channel(false);
        Ok(Self { stop, task: tokio::spawn(write(api, stopped)) })
    }

    /// Ends after the write under way, prints what was met and answers it.
    ///
    /// # Errors
    /// When the writes broke down.
    pub async fn stop(self, of: &str) -> anyhow::Result<Written> {
        self.stop.send_replace(true);
        let written = self.task.await?;
        let outcomes = &written.outcomes;
        println!(
            "{of}: writes {:?}, longest gap {:?}, slowest {:?}, {} users",
            outcomes.counts,
            outcomes.longest_gap(),
            outcomes.slowest,
            written.users.len()
        );
        Ok(written)
    }
}

impl Written {
    /// Holds what was acknowledged against the database.
    ///
    /// # Errors
    /// With the first write that is missing, or that nobody made.
    pub async fn is_there(&self, sandbox: &Sandbox, service: &str) -> anyhow::Result<()> {
        const ROWS: &str = "SELECT email, password FROM auth.user WHERE email LIKE 'written-%'";
        let rows = managed_sql(sandbox, service, ROWS).await?;
        let rows: BTreeMap<&str, &str> = rows.lines().filter_map(|row| row.split_once('\t')).collect();
        for (email, versions) in &self.users {
            let row = rows.get(email.as_str()).copied();
            let good = match row {
                None => versions.acknowledged.is_none(),
                Some(password) => {
                    let mut possible = versions.acknowledged.unwrap_or(0)..=versions.tried;
                    possible.any(|version| password == hash(version))
                }
            };
            anyhow::ensure!(good, "{email} is {row:?}, and was {versions:?}");
        }
        let strange = rows.keys().find(|email| !self.users.contains_key(**email));
        anyhow::ensure!(strange.is_none(), "nobody wrote {strange:?}");
        anyhow::ensure!(self.outcomes.count("200") > 0, "nothing was acknowledged");
        Ok(())
    }
}

/// A hash that no password has, and that says which it is.
fn hash(version: u32) -> String {
    format!("$argon2id$v=19$m=19456,t=2,p=1${version:021}A${}", "A".repeat(43))
}

struct Api {
    http: reqwest::Client,
    users: String,
    token: String,
}

impl Api {
    /// What a request met, and the body of a good answer.
    async fn ask(&self, request: reqwest::RequestBuilder, body: &Value) -> (String, Option<Value>) {
        let request = request.bearer_auth(&self.token).header(CONTENT_TYPE, "application/json");
        let Ok(answer) = request.body(body.to_string()).send().await else {
            return ("no answer".to_owned(), None);
        };
        let status = answer.status();
        let polite = status != 503 || answer.headers().contains_key("retry-after");
        match answer.text().await {
            Err(_) => ("no whole answer".to_owned(), None),
            Ok(text) if status.is_success() => ("200".to_owned(), serde_json::from_str(&text).ok()),
            Ok(_) if polite => (status.as_u16().to_string(), None),
            Ok(_) => (format!("{} without Retry-After", status.as_u16()), None),
        }
    }
}

/// Creates a user, then changes its password twice, then goes on with the next.
async fn write(api: Api, stopped: watch::Receiver<bool>) -> Written {
    let mut written = Written::default();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0.. {
        // Long, so that tables grow soon.
        let email = format!("written-{number:0190}@example.com");
        let mut path = None;
        for version in 0..3 {
            ticks.tick().await;
            if *stopped.borrow() {
                return written;
            }
            let (request, body) = match &path {
                None => (api.http.post(&api.users), json!({"email": email, "passwordHash": hash(version)})),
                Some(path) => (api.http.patch(path), json!({"passwordHash": hash(version)})),
            };
            let began = Instant::now();
            let (what, user) = api.ask(request, &body).await;
            let versions = written.users.entry(email.clone()).or_default();
            versions.tried = version;
            if what == "200" {
                versions.acknowledged = Some(version);
            }
            written.outcomes.add(Outcome { began, ended: Instant::now(), what });
            // A user whose creation was not acknowledged has no known path.
            let Some(id) = user.as_ref().and_then(|user| user["id"].as_i64()) else {
                if path.is_none() {
                    break;
                }
                continue;
            };
            path = Some(format!("{}/{id}", api.users));
        }
    }
    written
}
