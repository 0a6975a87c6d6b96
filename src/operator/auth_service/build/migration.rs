//! The Job that brings the database to the schema, the account and the users that are wanted.

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Container, EnvVar, PodSpec, PodTemplateSpec, ProjectedVolumeSource, ResourceRequirements,
            SecretProjection, Volume, VolumeMount, VolumeProjection,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use super::{
    super::{
        names::{Component, MIGRATE_CONTAINER, entry},
        plan::{AdminAccount, Bootstrap, Migration, Plan},
    },
    deployment::{SERVER_USER, connection},
    environment::{file_variable, variable},
    pod::{self, SECRET_MODE, item, read_only_mount, secret_items_volume},
};
use crate::{
    api::auth_service::SchemaMode,
    contract::{BootstrapUser, env, mount},
};

const ADMIN_VOLUME: &str = "database-admin";
const BOOTSTRAP_VOLUME: &str = "bootstrap";
/// Files of an account with admin rights below [`mount::DATABASE_ADMIN`].
const USERNAME_FILE: &str = "username";
/// The password of an account or a bootstrap user, below its folder.
const PASSWORD_FILE: &str = "password";
/// Connections that are refused are retried for 30 s; the rest is left to the statements.
const DEADLINE_SECONDS: i64 = 300;

/// One attempt of `auth-server migrate`. The Job neither retries by itself nor vanishes: a failed
/// one is read and made again under the resource's own backoff, a completed one tells what was done.
pub(super) fn job(plan: &Plan, migration: &Migration) -> Job {
    Job {
        metadata: plan.identity.metadata(migration.name.clone(), Component::Migration),
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            active_deadline_seconds: Some(DEADLINE_SECONDS),
            // A pod on its way out still runs statements: no second one beside it.
            pod_replacement_policy: Some("Failed".to_owned()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(plan.identity.labels(Component::Migration)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(plan, migration)),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

fn pod_spec(plan: &Plan, migration: &Migration) -> PodSpec {
    let (account, account_mount) = pod::account_volume(&plan.identity, &migration.connection.account);
    let (admin_variables, admin) = migration.admin.as_ref().map(admin).unzip();
    let (bootstrap_variable, bootstrap) = bootstrap(&migration.bootstrap).unzip();

    let mut variables = connection(&migration.connection);
    variables.extend(admin_variables.into_iter().flatten());
    variables.push(variable(env::SCHEMA_MODE, schema_mode(migration.schema)));
    variables.extend(bootstrap_variable);
    variables.extend(migration.new_passwords.iter().map(|(name, value)| variable(name, value)));
    let (volumes, mounts) = [Some((account, account_mount)), admin, bootstrap].into_iter().flatten().unzip();

    let container = Container {
        name: MIGRATE_CONTAINER.to_owned(),
        image: Some(migration.image.clone()),
        args: Some(vec!["migrate".to_owned()]),
        env: Some(variables),
        resources: Some(resources()),
        volume_mounts: Some(mounts),
        ..Container::default()
    };
    PodSpec { restart_policy: Some("Never".to_owned()), ..pod::pod(plan, SERVER_USER, container, volumes) }
}

/// Enough for one Argon2id hash at a time.
fn resources() -> ResourceRequirements {
    let quantity = |name: &str, value: &str| (name.to_owned(), Quantity(value.to_owned()));
    ResourceRequirements {
        requests: Some([quantity("cpu", "100m"), quantity("memory", "96Mi")].into()),
        ..ResourceRequirements::default()
    }
}

const fn schema_mode(mode: SchemaMode) -> &'static str {
    match mode {
        SchemaMode::Managed => "Managed",
        SchemaMode::Existing => "Existing",
    }
}

fn admin(account: &AdminAccount) -> (Vec<EnvVar>, (Volume, VolumeMount)) {
    let file = |name: &str| format!("{}/{name}", mount::DATABASE_ADMIN);
    let mut items = vec![(entry::PASSWORD, PASSWORD_FILE)];
    let username = if let Some(username) = &account.username {
        variable(env::MYSQL_ADMIN_USER, username)
    } else {
        items.push((entry::USERNAME, USERNAME_FILE));
        file_variable(env::MYSQL_ADMIN_USER, file(USERNAME_FILE))
    };
    (
        vec![username, file_variable(env::MYSQL_ADMIN_PASSWORD, file(PASSWORD_FILE))],
        (
            secret_items_volume(ADMIN_VOLUME, account.secret.clone(), &items),
            read_only_mount(ADMIN_VOLUME, mount::DATABASE_ADMIN),
        ),
    )
}

/// The list of users, and one volume with a folder for each of them. A Secret that is missing
/// leaves its folder out and holds up nobody.
fn bootstrap(users: &[Bootstrap]) -> Option<(EnvVar, (Volume, VolumeMount))> {
    if users.is_empty() {
        return None;
    }
    let listed: Vec<_> = users
        .iter()
        .enumerate()
        .map(|(place, user)| BootstrapUser {
            email: user.email.clone(),
            admin: user.admin,
            password_file: format!("{}/{place}/{PASSWORD_FILE}", mount::BOOTSTRAP).into(),
        })
        .collect();
    let sources = users.iter().enumerate().map(|(place, user)| VolumeProjection {
        secret: Some(SecretProjection {
            name: user.secret.clone(),
            items: Some(vec![item(&user.key, &format!("{place}/{PASSWORD_FILE}"))]),
            optional: Some(true),
        }),
        ..VolumeProjection::default()
    });
    let volume = Volume {
        name: BOOTSTRAP_VOLUME.to_owned(),
        projected: Some(ProjectedVolumeSource {
            default_mode: Some(SECRET_MODE),
            sources: Some(sources.collect()),
        }),
        ..Volume::default()
    };
    let list = serde_json::json!(listed).to_string();
    Some((
        variable(env::BOOTSTRAP_USERS, list),
        (volume, read_only_mount(BOOTSTRAP_VOLUME, mount::BOOTSTRAP)),
    ))
}

#[cfg(test)]
mod tests {
    use super::{super::sample, job};
    use crate::operator::auth_service::plan::Plan;

    fn built(plan: &Plan) -> k8s_openapi::api::batch::v1::Job {
        job(plan, plan.migration.as_ref().unwrap())
    }

    #[test]
    fn root_sets_up_a_managed_database_and_its_first_admin() {
        insta::assert_yaml_snapshot!(built(&sample::managed()));
    }

    #[test]
    fn an_admin_account_of_the_users_sets_up_an_external_database() {
        insta::assert_yaml_snapshot!(built(&sample::external()));
    }

    #[test]
    fn without_admin_and_users_the_servers_own_account_checks_the_schema() {
        let mut plan = sample::external();
        let migration = plan.migration.as_mut().unwrap();
        migration.admin = None;
        migration.bootstrap.clear();
        insta::assert_yaml_snapshot!(built(&plan));
    }
}
