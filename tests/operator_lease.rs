//! Which of several processes leads: at most one, and soon another when it is gone.

mod support;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::json;
use support::{
    cluster::{PATIENCE, Sandbox, in_namespace},
    operator::{Operator, Options},
    players::{Script, play},
    proxy::Proxy,
};

const TTL: Duration = Duration::from_secs(5);
/// What a busy machine may add to a bound.
const SLACK: Duration = Duration::from_secs(5);

fn options(sandbox: &Sandbox) -> Options {
    Options {
        lease: Some("operator".to_owned()),
        lease_duration: TTL,
        ..Options::watching(&sandbox.namespace)
    }
}

async fn leads(operator: &Operator) -> bool {
    operator.metric("authservice_operator_leader", "").await.is_ok_and(|leader| leader > 0.0)
}

/// Waits until the process leads; answers how long that took.
async fn until_it_leads(operator: &Operator) -> anyhow::Result<Duration> {
    let started = Instant::now();
    while !leads(operator).await {
        anyhow::ensure!(started.elapsed() < PATIENCE, "it never leads: {}", operator.log()?);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(started.elapsed())
}

/// Two processes of which the first leads.
async fn pair(sandbox: &Sandbox) -> anyhow::Result<(Operator, Operator)> {
    play(&sandbox.namespace, Script::default());
    let first = Operator::start_with(sandbox, &options(sandbox))?;
    until_it_leads(&first).await?;
    let second = Operator::start_with(sandbox, &options(sandbox))?;
    second.wait_for("/livez", 200).await?;
    Ok((first, second))
}

async fn holder(sandbox: &Sandbox) -> anyhow::Result<Option<String>> {
    let lease = sandbox.api::<Lease>().get("operator").await?;
    Ok(lease.spec.and_then(|spec| spec.holder_identity).filter(|holder| !holder.is_empty()))
}

#[tokio::test]
async fn one_of_two_leads_and_the_other_answers_its_probes_meanwhile() -> anyhow::Result<()> {
    in_namespace("lease", async |sandbox| {
        let (first, second) = pair(sandbox).await?;
        sandbox.create_service("gate", json!({})).await?;
        sandbox.wait_ready("gate").await?;
        let until = Instant::now() + TTL + TTL;
        while Instant::now() < until {
            assert_eq!((leads(&first).await, leads(&second).await), (true, false));
            assert_eq!(second.ask("/livez").await.map(|answer| answer.0), Some(200));
            assert_eq!(second.ask("/readyz").await.map(|answer| answer.0), Some(200));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        assert!(second.metric("authservice_operator_reconciles_total", "").await? < 1.0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_killed_leader_is_followed_within_the_lease() -> anyhow::Result<()> {
    in_namespace("lease", async |sandbox| {
        let (mut first, second) = pair(sandbox).await?;
        first.kill().await?;
        let took = until_it_leads(&second).await?;
        println!("followed after {took:?}, the lease stands for {TTL:?}");
        anyhow::ensure!(took < TTL + SLACK, "it took {took:?}");
        sandbox.create_service("gate", json!({})).await?;
        sandbox.wait_ready("gate").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_terminated_leader_hands_over_at_once() -> anyhow::Result<()> {
    in_namespace("lease", async |sandbox| {
        // A lease that would stand for long, were it not released.
        let long = Options { lease_duration: Duration::from_secs(15), ..options(sandbox) };
        let mut first = Operator::start_with(sandbox, &long)?;
        until_it_leads(&first).await?;
        let second = Operator::start_with(sandbox, &long)?;
        second.wait_for("/livez", 200).await?;
        assert_eq!(first.terminate().await?, Some(0));
        let took = until_it_leads(&second).await?;
        println!("handed over after {took:?}");
        anyhow::ensure!(took < SLACK, "it took {took:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_terminated_process_that_leads_alone_leaves_the_lease_free() -> anyhow::Result<()> {
    in_namespace("lease", async |sandbox| {
        let mut operator = Operator::start_with(sandbox, &options(sandbox))?;
        until_it_leads(&operator).await?;
        assert!(holder(sandbox).await?.is_some());
        assert_eq!(operator.terminate().await?, Some(0));
        assert_eq!(holder(sandbox).await?, None);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_leader_that_cannot_renew_leaves_before_another_leads() -> anyhow::Result<()> {
    in_namespace("lease", async |sandbox| {
        let proxy = Proxy::start(sandbox.client.clone()).await?;
        let cut_off = Options { kubeconfig: Some(proxy.kubeconfig()), ..options(sandbox) };
        let mut first = Operator::start_with(sandbox, &cut_off)?;
        until_it_leads(&first).await?;
        let second = Operator::start_with(sandbox, &options(sandbox))?;
        second.wait_for("/livez", 200).await?;
        proxy.cut();
        let cut = Instant::now();
        let code = tokio::time::timeout(TTL + SLACK, first.ended()).await.context("it stays")??;
        let left = cut.elapsed();
        assert_eq!(code, Some(1));
        assert!(!leads(&second).await, "two led at the same time");
        until_it_leads(&second).await?;
        println!("it left after {left:?}, and was followed after {:?}", cut.elapsed());
        anyhow::ensure!(cut.elapsed() < TTL + SLACK, "it took {:?}", cut.elapsed());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_leader_whose_lease_was_taken_leaves() -> anyhow::Result<()> {
    in_namespace("lease", async |sandbox| {
        let mut operator = Operator::start_with(sandbox, &options(sandbox))?;
        until_it_leads(&operator).await?;
        sandbox.merge::<Lease>("operator", json!({"spec": {"holderIdentity": "stranger"}})).await?;
        assert_eq!(operator.ended().await?, Some(1));
        assert!(operator.log()?.contains("the lease was taken by stranger"), "{}", operator.log()?);
        assert_eq!(holder(sandbox).await?.as_deref(), Some("stranger"));
        Ok(())
    })
    .await
}
