//! Where traces go.

use serde_json::{Value, json};

use crate::operator::auth_service::{
    fixture::{World, refused},
    live,
    plan::Tracing,
};

const REFUSED: &str = "FieldRefused SpecInvalid: monitoring.tracing.endpoint begins with https, which traces are not sent by: name a collector in the cluster by http://host:4318, and have it send them on";

fn traced(endpoint: &str, sampling: Option<f64>) -> Value {
    json!({"monitoring": {"tracing": {"endpoint": endpoint, "sampling": sampling}}})
}

/// What the pods that the plan wants send where.
fn wanted(world: &mut World) -> Option<Tracing> {
    world.run().plan.server.unwrap().tracing
}

fn tracing(endpoint: &str, sampling: &str) -> Tracing {
    Tracing { endpoint: endpoint.to_owned(), sampling: sampling.to_owned() }
}

#[test]
fn pods_trace_what_spec_asks_for_and_nothing_without_it() {
    let mut world = World::new(json!({}));
    world.up();
    assert_eq!(wanted(&mut world), None);
    world.respec(json!({"monitoring": {}}));
    assert_eq!(wanted(&mut world), None);
    for (sampling, argument) in [(None, "1"), (Some(0.0), "0"), (Some(0.05), "0.05"), (Some(1.0), "1")] {
        world.respec(traced("http://collector:4318", sampling));
        let expected = Some(tracing("http://collector:4318", argument));
        assert_eq!(wanted(&mut world), expected);
        assert_eq!(world.observed.deployment.as_ref().and_then(live::tracing), expected);
    }
    world.respec(json!({}));
    assert_eq!(wanted(&mut world), None);
}

#[test]
fn what_cannot_be_followed_is_named_and_keeps_nobody_from_starting() {
    let mut world = World::new(traced("https://collector:4318", None));
    let decision = world.up();
    assert_eq!((refused(&decision), decision.plan.server.unwrap().tracing), (vec![REFUSED.to_owned()], None));
    world.respec(traced("http://collector:70000", Some(1.5)));
    assert_eq!(
        refused(&world.run()),
        [
            "FieldRefused SpecInvalid: monitoring.tracing.endpoint is no URL of a collector: use the URL of its OTLP/HTTP port, such as http://collector.observability.svc:4318",
            "FieldRefused SpecInvalid: monitoring.tracing.sampling is no part of the requests: use a number from 0 to 1, such as 0.1",
        ]
    );
}

#[test]
fn live_pods_keep_what_they_have_while_spec_cannot_be_followed() {
    let mut world = World::new(traced("http://first:4318", Some(0.5)));
    world.up();
    let mut spec = traced("https://second:4318", None);
    spec["replicas"] = json!(3);
    world.respec(spec);
    let decision = world.run();
    let server = decision.plan.server.as_ref().unwrap();
    assert_eq!((&server.tracing, server.replicas), (&Some(tracing("http://first:4318", "0.5")), 3));
    assert_eq!(refused(&decision), [REFUSED]);
}
