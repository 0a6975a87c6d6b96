//! External databases on a real node: an empty server is set up, the original's own table is
//! adopted as it is, and every fault is told in the database's own words and heals once mended.

mod support;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::{Secret, Service};
use serde_json::{Value, json};
use support::{
    clients::{self, Credentials, admin, claims, secret_entry, token},
    cluster::{Sandbox, condition},
    node::{Database, Engine, eventually, on_node},
};

fn secret(name: &str, username: &str, password: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"username": username, "password": password},
    })
}

async fn set_up_an_empty_server(sandbox: &Sandbox, engine: Engine) -> anyhow::Result<()> {
    let database = Database::start(sandbox, "db", engine).await?;
    database
        .sql(
            "CREATE USER boss@'%' IDENTIFIED BY 'b0ss pass'; GRANT ALL ON *.* TO boss@'%' WITH GRANT OPTION;",
        )
        .await?;
    sandbox.create::<Secret>(&secret("boss", "boss", "b0ss pass\n")).await?;
    let external =
        json!({"hosts": [{"host": "db"}], "name": "log_in", "adminCredentialsSecretRef": {"name": "boss"}});
    sandbox.create_service("auth", json!({"replicas": 1, "database": {"external": external}})).await?;
    let service = sandbox.wait_ready("auth").await?;
    assert_eq!(condition(&service, "FeaturesLimited"), None);

    let address = clients::address(sandbox, "auth").await?;
    let user = admin(sandbox, "auth").await?;
    let claims = claims(&address, &token(&address, &user).await?).await?;
    assert_eq!((&claims["username"], &claims["admin"]), (&json!(user.email), &json!(true)));

    let id = secret_entry(sandbox, "auth-database", "id").await?;
    let account = format!("as_{id}_1");
    let accounts = database.sql("SELECT user, host FROM mysql.user WHERE user LIKE 'as%'").await?;
    assert_eq!(accounts, format!("{account}\t%\n"));
    let grants = database.sql(&format!("SHOW GRANTS FOR '{account}'@'%'")).await?;
    // MariaDB adds the password's hash.
    let grants: Vec<&str> =
        grants.lines().map(|line| line.split(" IDENTIFIED").next().unwrap_or(line)).collect();
    assert_eq!(
        grants,
        [
            format!("GRANT USAGE ON *.* TO `{account}`@`%`"),
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON `log\\_in`.* TO `{account}`@`%`"),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn an_empty_mysql_with_admin_credentials_is_set_up() -> anyhow::Result<()> {
    on_node("empty", async |sandbox| set_up_an_empty_server(sandbox, Engine::MySql).await).await
}

#[tokio::test]
async fn an_empty_mariadb_with_admin_credentials_is_set_up() -> anyhow::Result<()> {
    on_node("empty", async |sandbox| set_up_an_empty_server(sandbox, Engine::MariaDb).await).await
}

async fn adopt_the_originals_table(sandbox: &Sandbox, engine: Engine) -> anyhow::Result<()> {
    let database = Database::start(sandbox, "db", engine).await?;
    let original = "CREATE USER 'auth_user'@'%' IDENTIFIED BY 'Auth123';
        CREATE DATABASE auth;
        GRANT ALL PRIVILEGES ON auth.* TO 'auth_user'@'%';
        USE auth;
        CREATE TABLE user (
            id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
            email VARCHAR(255) NOT NULL UNIQUE,
            password VARCHAR(255) NOT NULL
        );
        INSERT INTO user (email, password) VALUES ('georgio@email.com', 'Admin123');";
    database.sql(original).await?;
    let table = "SHOW CREATE TABLE auth.user";
    let before = database.sql(table).await?;

    sandbox.create::<Secret>(&secret("account", "auth_user", "Auth123")).await?;
    let external =
        json!({"hosts": [{"host": "db"}], "schema": "Existing", "credentialsSecretRef": {"name": "account"}});
    let spec = json!({
        "replicas": 1,
        "database": {"external": external},
        "passwords": {"legacyFormats": ["plaintext"]},
        "users": {"bootstrap": []},
    });
    sandbox.create_service("auth", spec).await?;
    let service = sandbox.wait_ready("auth").await?;
    assert_eq!(condition(&service, "FeaturesLimited"), None);

    let address = clients::address(sandbox, "auth").await?;
    let user = Credentials::new("georgio@email.com", "Admin123");
    let claims = claims(&address, &token(&address, &user).await?).await?;
    assert_eq!((&claims["username"], &claims["admin"]), (&json!("georgio@email.com"), &json!(true)));
    eventually(
        "a hash in place of the password",
        &"1\tgeorgio@email.com\t$argon2id$v=19$\n".to_owned(),
        async || database.sql("SELECT id, email, LEFT(password, 15) FROM auth.user").await,
    )
    .await?;
    token(&address, &user).await?;
    assert_eq!(
        clients::login(&address, &Credentials::new("georgio@email.com", "admin123")).await?.status,
        401
    );
    assert_eq!(database.sql(table).await?, before);
    Ok(())
}

#[tokio::test]
async fn the_originals_table_in_mysql_is_adopted_and_never_altered() -> anyhow::Result<()> {
    on_node("adopt", async |sandbox| adopt_the_originals_table(sandbox, Engine::MySql).await).await
}

#[tokio::test]
async fn the_originals_table_in_mariadb_is_adopted_and_never_altered() -> anyhow::Result<()> {
    on_node("adopt", async |sandbox| adopt_the_originals_table(sandbox, Engine::MariaDb).await).await
}

/// A message without the address that the database saw a pod come from.
fn without_address(message: &str) -> anyhow::Result<String> {
    let (start, rest) = message.split_once("'@'10.").with_context(|| message.to_owned())?;
    let (_, end) = rest.split_once('\'').with_context(|| message.to_owned())?;
    Ok(format!("{start}'@'<pod>'{end}"))
}

#[tokio::test]
async fn each_fault_is_told_in_the_databases_words_and_heals_once_mended() -> anyhow::Result<()> {
    on_node("faults", async |sandbox| {
        let database = Database::start(sandbox, "db", Engine::MySql).await?;
        let schema = "CREATE USER 'clerk'@'%' IDENTIFIED BY 'right';
            CREATE USER 'other'@'%' IDENTIFIED BY 'other';
            CREATE DATABASE shop;
            GRANT ALL ON shop.* TO 'other'@'%';
            CREATE TABLE shop.user (id INT AUTO_INCREMENT PRIMARY KEY, email VARCHAR(255) NOT NULL UNIQUE, password VARCHAR(255) NOT NULL);";
        database.sql(schema).await?;
        let spec = |host: &str, account: &str| {
            let external = json!({"hosts": [{"host": host}], "name": "shop", "credentialsSecretRef": {"name": account}});
            json!({"replicas": 1, "database": {"external": external}, "users": {"bootstrap": []}})
        };
        sandbox.create::<Secret>(&secret("other", "other", "other")).await?;
        sandbox.create_service("astray", spec("elsewhere", "other")).await?;

        sandbox.create_service("auth", spec("db", "account")).await?;
        let message = sandbox.wait_condition("auth", "SecretUnusable", "True", "SecretMissing").await?;
        let missing = "database.external.credentialsSecretRef: Secret account does not exist: create it with keys username and password";
        assert_eq!(message, missing);
        assert_eq!(sandbox.wait_condition("auth", "Ready", "False", "SecretMissing").await?, missing);

        sandbox.create::<Secret>(&secret("account", "clerk", "wrong")).await?;
        let rejected = "The database at db:3306 refused account \"clerk\": Access denied for user 'clerk'@'<pod>' (using password: YES) \
            (error 1045). Check the password, and that the account may log in from other hosts: CREATE USER 'clerk'@'%'.";
        for kind in ["SchemaReady", "DatabaseReady", "Ready"] {
            let message = sandbox.wait_condition("auth", kind, "False", "CredentialsRejected").await?;
            assert_eq!(without_address(&message)?, rejected);
        }

        sandbox.merge::<Secret>("account", json!({"stringData": {"password": "right"}})).await?;
        let message = sandbox.wait_condition("auth", "Ready", "False", "GrantMissing").await?;
        let words = "Account \"clerk\" of the database at db:3306 lacks a right: ";
        assert!(message.starts_with(words) && message.ends_with(". Grant it, or give admin credentials."), "{message}");

        database.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO 'clerk'@'%'").await?;
        let service = sandbox.wait_ready("auth").await?;
        let limited = condition(&service, "FeaturesLimited").context("no word of the missing right to create tables")?;
        assert_eq!(
            limited.message,
            "the admin flag, disabled users, logout, changes of passwords, and login protection by all pods together: account clerk \
             lacks CREATE on database shop, so tables authservice_* are absent, every user is an admin and each pod counts failed \
             logins on its own"
        );
        assert_eq!(condition(&service, "SecretUnusable"), None);

        let message = sandbox.wait_condition("astray", "Ready", "False", "DatabaseUnreachable").await?;
        let words = "The database at elsewhere:3306 cannot be reached: ";
        let cure = ". Check that host and port are right, that it runs, listens on more than 127.0.0.1, and that no firewall or network policy is in the way.";
        assert!(message.starts_with(words) && message.ends_with(cure), "{message}");
        let mut service = support::node::service_of("elsewhere");
        service["spec"]["selector"] = json!({"app": "db"});
        sandbox.create::<Service>(&service).await?;
        sandbox.wait_ready("astray").await?;
        Ok(())
    })
    .await
}
