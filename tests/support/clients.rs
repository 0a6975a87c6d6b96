//! Callers of the service: Python `requests` as the original's gateway uses it, curl and Rust, from
//! a pod of the cluster and from the node itself.

use std::{process::Stdio, time::Duration};

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::cluster::Sandbox;

const CONTRACT: &str = include_str!("../clients/contract.py");
const TOKENS: &str = include_str!("../clients/tokens.py");
/// Name of the namespace's client pod.
pub const CLIENT: &str = "client";

/// Where a call comes from.
#[derive(Clone, Copy)]
pub enum Caller<'a> {
    /// A pod of this namespace, see [`start_client`]; Services go by their names.
    Pod(&'a Sandbox),
    /// A process of the node; Services go by their addresses.
    Node,
}

/// Starts the namespace's client pod.
///
/// # Errors
/// When it does not become ready.
pub async fn start_client(sandbox: &Sandbox) -> anyhow::Result<()> {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": CLIENT},
        "spec": {
            "automountServiceAccountToken": false,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": CLIENT,
                "image": variable("TEST_CLIENT_IMAGE")?,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sleep", "infinity"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    sandbox.create::<Pod>(&pod).await?;
    sandbox.wait_until(CLIENT, "a ready pod", pod_is_ready).await?;
    Ok(())
}

/// Whether a pod's containers are ready.
#[must_use]
pub fn pod_is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Makes calls with Python `requests` and answers status, headers and body of each.
///
/// # Errors
/// When the program fails, a refused connection included.
pub async fn requests(from: Caller<'_>, address: &str, calls: Value) -> anyhow::Result<Value> {
    python(from, CONTRACT, &json!({"address": address, "calls": calls})).await
}

/// What `PyJWT` and jwcrypto find in a token, and a token as the original issues it.
///
/// # Errors
/// When either refuses the token.
pub async fn verify(token: &str, secret: &str, username: &str) -> anyhow::Result<Value> {
    let question = json!({"token": token, "secret": secret, "username": username, "expires_in": 3600});
    python(Caller::Node, TOKENS, &question).await
}

/// A token for this user that `PyJWT` signs with a shared secret, without a key id.
///
/// # Errors
/// When Python fails.
pub async fn sign(secret: &str, username: &str) -> anyhow::Result<String> {
    const SIGN: &str = "import json, sys, time, jwt
question, now = json.load(sys.stdin), int(time.time())
claims = {'username': question['username'], 'admin': False, 'iat': now, 'exp': now + 3600}
json.dump(jwt.encode(claims, question['secret'], algorithm='HS256'), sys.stdout)";
    let token = python(Caller::Node, SIGN, &json!({"secret": secret, "username": username})).await?;
    token.as_str().map(str::to_owned).context("no token")
}

async fn python(from: Caller<'_>, script: &str, question: &Value) -> anyhow::Result<Value> {
    let answer = match from {
        Caller::Pod(sandbox) => {
            exec(sandbox, CLIENT, &["python3", "-c", script], &question.to_string()).await?
        }
        Caller::Node => run(&words("TEST_PYTHON")?, &["-c", script], &question.to_string()).await?,
    };
    serde_json::from_str(&answer).with_context(|| format!("the client printed {answer:?}"))
}

/// What curl prints.
///
/// # Errors
/// When curl fails.
pub async fn curl(from: Caller<'_>, arguments: &[&str]) -> anyhow::Result<String> {
    match from {
        Caller::Pod(sandbox) => exec(sandbox, CLIENT, &[&["curl"], arguments].concat(), "").await,
        Caller::Node => run(&words("TEST_CURL")?, arguments, "").await,
    }
}

/// Runs a program in a pod.
///
/// # Errors
/// When it fails, with what it wrote to standard error.
pub async fn exec(sandbox: &Sandbox, pod: &str, program: &[&str], input: &str) -> anyhow::Result<String> {
    let kubectl = variable("TEST_KUBECTL")?;
    let fixed = ["exec", "--stdin", "--namespace", &sandbox.namespace, pod, "--"];
    run(&[kubectl], &[&fixed, program].concat(), input).await
}

/// Runs a program of the host.
///
/// # Errors
/// When it fails, with what it wrote to standard error.
pub async fn run(program: &[String], arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let (name, first) = program.split_first().context("no program")?;
    let mut child = Command::new(name)
        .args(first)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = child.wait_with_output().await?;
    anyhow::ensure!(
        output.status.success(),
        "{name} {}: {}{}",
        arguments
            .iter()
            .map(|argument| argument.lines().next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join(" "),
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim(),
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// A variable that `cargo xtask test` sets.
///
/// # Errors
/// When it is not set.
pub fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set; run cargo xtask test"))
}

fn words(name: &str) -> anyhow::Result<Vec<String>> {
    Ok(variable(name)?.split_whitespace().map(str::to_owned).collect())
}

/// E-mail and password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    pub email: String,
    pub password: String,
}

impl Credentials {
    /// As given.
    #[must_use]
    pub fn new(email: &str, password: &str) -> Self {
        Self { email: email.to_owned(), password: password.to_owned() }
    }
}

/// The first admin, as its Secret says.
///
/// # Errors
/// When there is no such Secret.
pub async fn admin(sandbox: &Sandbox, service: &str) -> anyhow::Result<Credentials> {
    let secret = format!("{service}-admin");
    Ok(Credentials {
        email: secret_entry(sandbox, &secret, "email").await?,
        password: secret_entry(sandbox, &secret, "password").await?,
    })
}

/// One entry of a Secret, as text.
///
/// # Errors
/// When the Secret or the entry does not exist.
pub async fn secret_entry(sandbox: &Sandbox, name: &str, entry: &str) -> anyhow::Result<String> {
    let secret = sandbox.api::<Secret>().get(name).await?;
    let data = secret.data.unwrap_or_default();
    let bytes = data.get(entry).with_context(|| format!("Secret {name} has no entry {entry}"))?;
    Ok(String::from_utf8(bytes.0.clone())?)
}

/// Address and port of a service for callers on the node.
///
/// # Errors
/// When there is no such Service.
pub async fn address(sandbox: &Sandbox, name: &str) -> anyhow::Result<String> {
    let service = sandbox.api::<Service>().get(name).await?;
    let ip = service.spec.and_then(|spec| spec.cluster_ip).context("the Service has no address")?;
    Ok(format!("{ip}:5000"))
}

/// Status and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub retry_after: Option<String>,
    pub text: String,
}

/// `POST /login` from the node.
///
/// # Errors
/// When nobody answers.
pub async fn login(address: &str, credentials: &Credentials) -> anyhow::Result<Answer> {
    let request = client()?
        .post(format!("http://{address}/login"))
        .basic_auth(&credentials.email, Some(&credentials.password));
    answer(request).await
}

/// The token that a good login answers.
///
/// # Errors
/// When the answer is another.
pub async fn token(address: &str, credentials: &Credentials) -> anyhow::Result<String> {
    let answer = login(address, credentials).await?;
    anyhow::ensure!(answer.status == 200, "{} cannot log in: {answer:?}", credentials.email);
    Ok(answer.text)
}

/// The status of `GET /readyz` of one server pod.
///
/// # Errors
/// When nobody answers.
pub async fn readyz(pod_address: &str) -> anyhow::Result<u16> {
    let url = format!("http://{pod_address}:{}/readyz", authservice::contract::OPS_PORT);
    Ok(client()?.get(url).send().await?.status().as_u16())
}

/// `POST /validate` from the node.
///
/// # Errors
/// When nobody answers.
pub async fn validate(address: &str, token: &str) -> anyhow::Result<Answer> {
    answer(client()?.post(format!("http://{address}/validate")).bearer_auth(token)).await
}

/// The claims of a token, as `/validate` answers them.
///
/// # Errors
/// When it refuses the token.
pub async fn claims(address: &str, token: &str) -> anyhow::Result<Value> {
    let answer = validate(address, token).await?;
    anyhow::ensure!(answer.status == 200, "the token is refused: {answer:?}");
    Ok(serde_json::from_str(&answer.text)?)
}

/// How long a new token is valid, in seconds. A pod that drains answers for as long as a node still
/// leads to it, so that after a change of spec this is waited for.
///
/// # Errors
/// When nobody can log in, or the token is refused.
pub async fn lifetime(address: &str, credentials: &Credentials) -> anyhow::Result<u64> {
    let claims = claims(address, &token(address, credentials).await?).await?;
    Ok(claims["exp"].as_u64().context("exp")? - claims["iat"].as_u64().context("iat")?)
}

fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().pool_max_idle_per_host(0).timeout(Duration::from_secs(30)).build()?)
}

async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
    let response = request.send().await?;
    Ok(Answer {
        status: response.status().as_u16(),
        retry_after: response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
        text: response.text().await?,
    })
}
