//! What tokens say of where they come from and whom they are for.

use serde_json::json;

use crate::operator::auth_service::fixture::World;

#[test]
fn tokens_name_the_service_and_no_audience_unless_spec_says_otherwise() {
    for (spec, issuer, audience) in [
        (json!({}), "http://gate.market.svc:5000", None),
        (json!({"token": {"issuer": "shop"}}), "shop", None),
        (json!({"token": {"audience": "shop"}}), "http://gate.market.svc:5000", Some("shop")),
    ] {
        let server = World::new(spec.clone()).run().plan.server.unwrap();
        assert_eq!(
            (server.token_issuer.as_str(), server.token_audience.as_deref()),
            (issuer, audience),
            "{spec}"
        );
    }
}
