//! Migration Jobs against real Job and Deployment controllers: what they say reaches the
//! resource, and the server pods change over only after them.

mod support;

use std::time::Duration;

use authservice::{
    api::AuthService,
    contract::{DatabaseFault, MigrationError, MigrationReport, SCHEMA_VERSION},
};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Pod, Secret},
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::json;
use support::{
    cluster::{Sandbox, condition, in_namespace},
    operator::Operator,
    players::{Migration, Script, play, ready},
};

fn ends(report: MigrationReport) -> Script {
    Script { migration: Migration::Ends(report), ..Script::default() }
}

fn well() -> MigrationReport {
    MigrationReport {
        database_version: Some("9.7.4".to_owned()),
        schema_version: SCHEMA_VERSION,
        ..MigrationReport::default()
    }
}

async fn jobs(sandbox: &Sandbox) -> anyhow::Result<Vec<Job>> {
    Ok(sandbox.api::<Job>().list(&ListParams::default()).await?.items)
}

#[tokio::test]
async fn a_failed_migration_is_told_in_the_databases_words_and_tried_again() -> anyhow::Result<()> {
    in_namespace("migration", async |sandbox| {
        let words = "MySQL at db:3306 refused account \"app\": Access denied for user 'app'@'10.0.0.1' (using password: YES). Check key \"password\".";
        let error = MigrationError { reason: DatabaseFault::CredentialsRejected, message: words.to_owned() };
        play(&sandbox.namespace, ends(MigrationReport { error: Some(error), ..MigrationReport::default() }));
        let _operator = Operator::start(sandbox)?;
        sandbox.create_service("gate", json!({})).await?;
        let message = sandbox.wait_condition("gate", "SchemaReady", "False", "CredentialsRejected").await?;
        assert!(message.contains(words), "{message}");
        sandbox.wait_condition("gate", "Ready", "False", "CredentialsRejected").await?;
        play(&sandbox.namespace, ends(well()));
        let service = sandbox.wait_ready("gate").await?;
        let database = service.status.and_then(|status| status.database).unwrap_or_default();
        assert_eq!((database.version.as_deref(), database.schema_version), (Some("9.7.4"), Some(SCHEMA_VERSION)));
        assert_eq!(jobs(sandbox).await?.len(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn image_and_database_wait_for_the_migration_and_nothing_else_does() -> anyhow::Result<()> {
    in_namespace("migration", async |sandbox| {
        let _operator = ready(sandbox, json!({"image": "registry/server:1"})).await?;
        let old = jobs(sandbox).await?[0].name_any();
        play(&sandbox.namespace, Script { migration: Migration::Runs, ..Script::default() });
        let change = json!({"spec": {"image": "registry/server:2", "token": {"ttl": "2h"}, "replicas": 3}});
        sandbox.merge::<AuthService>("gate", change).await?;
        let settings = |deployment: &Deployment| {
            let container = deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.template.spec.as_ref())
                .map(|pod| &pod.containers[0]);
            let ttl = container.and_then(|container| {
                container.env.iter().flatten().find(|variable| variable.name == "TOKEN_TTL")?.value.clone()
            });
            (
                container.and_then(|container| container.image.clone()),
                ttl,
                deployment.spec.as_ref().and_then(|spec| spec.replicas),
            )
        };
        let wanted = |image: &str| (Some(image.to_owned()), Some("7200s".to_owned()), Some(3));
        sandbox
            .wait_until::<Deployment>("gate", "all but the image", |live| {
                settings(live) == wanted("registry/server:1")
            })
            .await?;
        sandbox.wait_condition("gate", "SchemaReady", "False", "Migrating").await?;
        let live = sandbox.api::<Deployment>().get("gate").await?;
        assert_eq!(settings(&live), wanted("registry/server:1"));
        play(&sandbox.namespace, Script::default());
        sandbox.wait_ready("gate").await?;
        assert_eq!(settings(&sandbox.api::<Deployment>().get("gate").await?), wanted("registry/server:2"));
        let now: Vec<String> = jobs(sandbox).await?.iter().map(kube::ResourceExt::name_any).collect();
        assert!(now.len() == 1 && now[0] != old, "{old} then {now:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_user_without_a_password_is_named_and_made_once_its_secret_exists() -> anyhow::Result<()> {
    in_namespace("migration", async |sandbox| {
        play(&sandbox.namespace, ends(MigrationReport { missing_users: vec!["a@b.c".to_owned()], ..well() }));
        let _operator = Operator::start(sandbox)?;
        let user = json!({"email": "a@b.c", "passwordSecretRef": {"name": "user", "key": "pw"}});
        sandbox.create_service("gate", json!({"users": {"bootstrap": [user]}})).await?;
        sandbox.wait_ready("gate").await?;
        let message =
            sandbox.wait_condition("gate", "BootstrapUserMissing", "True", "PasswordMissing").await?;
        assert_eq!(
            message,
            "not created, because the password is missing: a@b.c. Create the Secret and key that users.bootstrap names for each"
        );
        let first = jobs(sandbox).await?[0].name_any();
        play(&sandbox.namespace, ends(well()));
        sandbox.create::<Secret>(&json!({"metadata": {"name": "user"}, "stringData": {"pw": "p"}})).await?;
        sandbox
            .wait_until::<AuthService>("gate", "nobody missing", |service| {
                condition(service, "BootstrapUserMissing").is_none()
            })
            .await?;
        sandbox.wait_ready("gate").await?;
        assert_ne!(jobs(sandbox).await?[0].name_any(), first);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn missing_rights_are_listed_and_keep_nobody_out() -> anyhow::Result<()> {
    in_namespace("migration", async |sandbox| {
        let limits = vec!["disabling users: table authservice_users cannot be created".to_owned()];
        play(
            &sandbox.namespace,
            ends(MigrationReport { schema_version: 0, limits: limits.clone(), ..well() }),
        );
        let _operator = Operator::start(sandbox)?;
        sandbox.create_service("gate", json!({})).await?;
        sandbox.wait_ready("gate").await?;
        let message = sandbox.wait_condition("gate", "FeaturesLimited", "True", "RightsMissing").await?;
        assert!(message.contains(&limits[0]), "{message}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_migration_said_outlives_its_pod_and_the_operator() -> anyhow::Result<()> {
    in_namespace("migration", async |sandbox| {
        let limits = vec!["disabling users: table authservice_users cannot be created".to_owned()];
        play(&sandbox.namespace, ends(MigrationReport { limits, ..well() }));
        let mut operator = Operator::start(sandbox)?;
        sandbox.create_service("gate", json!({})).await?;
        sandbox.wait_ready("gate").await?;
        sandbox.wait_condition("gate", "FeaturesLimited", "True", "RightsMissing").await?;
        operator.kill().await?;
        let selector = ListParams::default().labels("batch.kubernetes.io/job-name");
        for pod in sandbox.api::<Pod>().list(&selector).await? {
            sandbox.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await?;
        }
        let before = jobs(sandbox).await?[0].uid();
        let _operator = Operator::start(sandbox)?;
        sandbox.merge::<AuthService>("gate", json!({"spec": {"token": {"ttl": "2h"}}})).await?;
        let service = sandbox.wait_ready("gate").await?;
        let said = condition(&service, "FeaturesLimited")
            .map(|condition| (condition.status.as_str(), condition.reason.as_str()));
        assert_eq!(said, Some(("True", "RightsMissing")));
        let database = service.status.as_ref().and_then(|status| status.database.clone()).unwrap_or_default();
        assert_eq!(
            (database.version.as_deref(), database.schema_version),
            (Some("9.7.4"), Some(SCHEMA_VERSION))
        );
        assert_eq!(jobs(sandbox).await?[0].uid(), before);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_database_whose_tables_are_gone_is_migrated_again() -> anyhow::Result<()> {
    in_namespace("migration", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let first = jobs(sandbox).await?[0].clone();
        let words = "Table 'auth.user' doesn't exist";
        play(
            &sandbox.namespace,
            Script { fault: Some((DatabaseFault::SchemaMissing, words.to_owned())), ..Script::default() },
        );
        let message = sandbox.wait_condition("gate", "DatabaseReady", "False", "SchemaMissing").await?;
        assert!(message.contains(words), "{message}");
        let name = first.name_any();
        // Some time is left for pods to notice a migration that has just completed.
        let again = sandbox.wait_until::<Job>(&name, "another run", |job| job.uid() != first.uid());
        tokio::time::timeout(Duration::from_mins(2), again).await??;
        play(&sandbox.namespace, Script::default());
        sandbox.wait_ready("gate").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_told_and_changes_nothing() -> anyhow::Result<()> {
    in_namespace("migration", async |sandbox| {
        let _operator = ready(sandbox, json!({})).await?;
        let before = jobs(sandbox).await?[0].uid();
        let words = "Can't connect to MySQL server on 'gate-mysql' (111)";
        play(
            &sandbox.namespace,
            Script {
                fault: Some((DatabaseFault::DatabaseUnreachable, words.to_owned())),
                ..Script::default()
            },
        );
        let message = sandbox.wait_condition("gate", "DatabaseReady", "False", "DatabaseUnreachable").await?;
        assert!(message.contains(words), "{message}");
        sandbox.wait_condition("gate", "Ready", "False", "DatabaseUnreachable").await?;
        play(&sandbox.namespace, Script::default());
        sandbox.wait_ready("gate").await?;
        assert_eq!(jobs(sandbox).await?[0].uid(), before);
        Ok(())
    })
    .await
}
