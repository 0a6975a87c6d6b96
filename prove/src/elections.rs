//! Elections on a network that is cut: one process leads at a time, and somebody always comes to.

use std::time::Duration;

use authservice::operator::lease::Settings;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::json;

use crate::{
    api_server::Kind,
    objects::{condition_holds, number, text},
    process::Process,
    scenarios::secrets,
    steps::{Step, act_all},
    world::{Moment, World},
};

/// Where the Lease is.
pub const NAMESPACE: &str = "operators";
/// The Lease.
pub const LEASE: &str = "authservice-operator";
/// Cuts of one election.
const CUTS: usize = 4;

fn settings(identity: String) -> Settings {
    Settings {
        namespace: NAMESPACE.to_owned(),
        name: LEASE.to_owned(),
        identity,
        ttl: Duration::from_secs(15),
    }
}

/// Two processes; again and again the lines of one are cut for a while, its election's or all. A process
/// that ends by itself is started again, as its Deployment does.
///
/// # Errors
/// Somebody wrote who did not lead, or nobody leads in the end.
pub async fn hold(seed: u64) -> anyhow::Result<()> {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut world = World::at(&Moment::empty(), seed);
    world.process.kill();
    act_all(&mut world, &secrets()).await?;
    let mut started = 0;
    let mut start = |world: &World| {
        started += 1;
        world.start_elected(settings(format!("process-{started}")), seed ^ started)
    };
    let mut processes: [Process; 2] = [start(&world), start(&world)];
    let mut offences = Vec::new();
    act_all(&mut world, &[Step::Create(json!({}))]).await?;
    for cut in 0..CUTS {
        world.pass(Duration::from_secs(chance.random_range(1..40))).await;
        let victim = &processes[chance.random_range(0..2_usize)];
        let duration = Duration::from_secs(chance.random_range(1..60));
        victim.lease_line.iter().for_each(|line| line.close(duration));
        if chance.random_bool(0.5) {
            victim.line.close(duration);
        }
        for step in 0..duration.as_secs() {
            // Something to write at every moment.
            let replicas = 1 + i32::try_from((step + cut as u64) % 3)?;
            world.act(&Step::Scale(replicas)).await?;
            world.pass(Duration::from_secs(1)).await;
            for process in &mut processes {
                if process.has_ended() {
                    offences.extend(process.offences());
                    *process = start(&world);
                }
            }
        }
    }
    act_all(&mut world, &[Step::Scale(4)]).await?;
    world.pass(Duration::from_mins(3)).await;
    offences.extend(processes.iter().flat_map(Process::offences));
    let service = world.service();
    let ready = service.as_deref().is_some_and(|service| {
        condition_holds(service, "Ready") && number(service, "/status/readyReplicas") == Some(4)
    });
    if !ready {
        offences.push("in the end nobody has done what was asked for".to_owned());
    }
    let lease = world.api.get(Kind::Lease, NAMESPACE, LEASE);
    if lease.as_deref().is_none_or(|lease| text(lease, "/spec/holderIdentity").is_empty()) {
        offences.push("in the end nobody leads".to_owned());
    }
    offences.truncate(5);
    anyhow::ensure!(offences.is_empty(), "{}", offences.join("\n"));
    Ok(())
}
