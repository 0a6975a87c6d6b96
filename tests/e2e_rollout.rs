//! Rolling updates under load: no caller notices one.

mod support;

use authservice::api::AuthService;
use serde_json::json;
use support::{
    clients::{self, admin, token, variable},
    load::{Load, Request},
    node::{on_node, wait_rolled_out},
};

/// Above what is asked for, so that a moment's lateness of this process does not count.
const VALIDATIONS_A_SECOND: u32 = 120;
const LOGINS_A_SECOND: u32 = 3;

#[tokio::test]
async fn three_rolling_updates_under_load_fail_no_request() -> anyhow::Result<()> {
    on_node("rollout", async |sandbox| {
        sandbox.create_service("auth", json!({})).await?;
        sandbox.wait_ready("auth").await?;
        let address = clients::address(sandbox, "auth").await?;
        let user = admin(sandbox, "auth").await?;
        let token = token(&address, &user).await?;
        let validations =
            Load::start(Request::Validate { address: address.clone(), token }, VALIDATIONS_A_SECOND)?;
        let login = Request::Login { address, email: user.email, password: user.password };
        let logins = Load::start(login, LOGINS_A_SECOND)?;

        let updates = [
            json!({"token": {"ttl": "2h"}}),
            json!({"image": variable("TEST_NEXT_SERVER_IMAGE")?}),
            json!({"image": null, "pod": {"annotations": {"touched": "once"}}}),
        ];
        for update in updates {
            let before = wait_rolled_out(sandbox, "auth").await?.metadata.generation;
            sandbox.merge::<AuthService>("auth", json!({"spec": update})).await?;
            sandbox.wait_ready("auth").await?;
            let after = wait_rolled_out(sandbox, "auth").await?.metadata.generation;
            assert!(after > before, "{update} changed nothing");
        }
        // The last of the old pods still drain.
        tokio::time::sleep(std::time::Duration::from_secs(6)).await;

        let (validations, logins) = (validations.stop().await?, logins.stop().await?);
        println!("validations: {validations:?}\nlogins: {logins:?}");
        assert_eq!((validations.but("200"), logins.but("200")), ([].into(), [].into()));
        assert!(validations.rate >= 100.0, "only {} validations a second", validations.rate);
        Ok(())
    })
    .await
}
