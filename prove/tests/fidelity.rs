//! Random sequences of requests, replayed on the model and on a real API server without controllers:
//! every answer and every event of a watch is the same, but for what no two API servers share.
#![cfg(feature = "live-tests")]

#[path = "fidelity/compare.rs"]
mod compare;
#[path = "fidelity/objects.rs"]
mod objects;
#[path = "fidelity/sequence.rs"]
mod sequence;
#[path = "fidelity/side.rs"]
mod side;

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    time::Instant,
};

use anyhow::Context as _;
use authservice::api::AuthService;
use authservice_prove::api_server::ApiServer;
use compare::{Names, differences};
use futures::StreamExt as _;
use k8s_openapi::{
    api::{core::v1::Namespace, storage::v1::StorageClass},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    jiff::Timestamp,
};
use kube::{
    Api, Client, Config, CustomResourceExt as _, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use sequence::{Step, sequence};
use serde_json::{Value, json};
use side::{Side, until_last};

/// How many sequences run side by side.
const LANES: usize = 24;

/// Where the two sides differ: kind, request and field, with how often and one example.
type Found = BTreeMap<String, (usize, String)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_answers_as_the_api_server_does() -> anyhow::Result<()> {
    let client = Client::try_from(Config::infer().await.context("KUBECONFIG names no cluster")?)?;
    install_definition(&client).await?;
    make_storage_class(&client).await?;
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let full = std::env::var_os("TEST_FULL").is_some();
    let count = number("TEST_SEQUENCES").unwrap_or(if full { 40_000 } else { 10_000 });
    let only = number("TEST_SEQUENCE");
    let first =
        only.or_else(|| number("TEST_SEED")).unwrap_or_else(|| u64::from(rand::random::<u16>()) * 1_000_000);
    let count = if only.is_some() { 1 } else { count };
    println!("sequences {first} to {}", first + count - 1);
    let run = format!("fidelity-{:08x}", rand::random::<u32>());
    for lane in 0..LANES {
        make_namespace(&client, &format!("{run}-{lane}")).await?;
    }
    let (started, found, asked) = (Instant::now(), RefCell::new(Found::new()), Cell::new(0));
    let lanes = (0..LANES).zip(first..).map(|(lane, first)| (format!("{run}-{lane}"), first));
    let last = first + count;
    futures::stream::iter(lanes)
        .for_each_concurrent(None, |(namespace, first)| {
            let (client, found, asked) = (&client, &found, &asked);
            async move {
                for number in (first..last).step_by(LANES) {
                    match replay_twice(client, number, &namespace, only.is_some(), found).await {
                        Ok(steps) => asked.set(asked.get() + steps),
                        Err(error) => note(found, "broken", number, &format!("{error:#}")),
                    }
                }
            }
        })
        .await;
    println!("{} requests in {} s", asked.get(), started.elapsed().as_secs());
    let found = found.into_inner();
    let mut listed: Vec<_> = found.iter().collect();
    listed.sort_by_key(|(_, (times, _))| std::cmp::Reverse(*times));
    for (what, (times, example)) in &listed {
        println!("{times:5} {what}\n      {example}");
    }
    anyhow::ensure!(found.is_empty(), "{} differences", found.len());
    Ok(())
}

#[tokio::test]
async fn pages_are_as_those_of_the_api_server() -> anyhow::Result<()> {
    let client = Client::try_from(Config::infer().await.context("KUBECONFIG names no cluster")?)?;
    let namespace = format!("fidelity-{:08x}", rand::random::<u32>());
    make_namespace(&client, &namespace).await?;
    let server = ApiServer::new(Timestamp::now);
    let mut sides = [Side::new(Client::new(server.endpoint(), "default")), Side::new(client)];
    let collection = format!("/api/v1/namespaces/{namespace}/secrets");
    for name in ["a", "b", "c", "d", "e"] {
        let body = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
        for side in &mut sides {
            side.ask(&request("POST", &collection, &body)).await?;
        }
    }
    let mut shown = Vec::new();
    for side in &mut sides {
        shown.push(pages(side, &collection).await?);
    }
    assert_eq!(shown[0], shown[1]);
    assert_eq!(shown[0].len(), 3);
    Ok(())
}

/// The pages of a collection, whose last object goes after the first page and is listed all the same.
async fn pages(side: &mut Side, collection: &str) -> anyhow::Result<Vec<Value>> {
    let (mut names, mut pages, mut path) = (Names::default(), Vec::new(), format!("{collection}?limit=2"));
    loop {
        let page = side.ask(&request("GET", &path, &Value::Null)).await?;
        if pages.is_empty() {
            side.ask(&request("DELETE", &format!("{collection}/e"), &Value::Null)).await?;
        }
        pages.push(names.normal(&page.body));
        match page.body["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
            Some(token) => path = format!("{collection}?limit=2&continue={token}"),
            None => return Ok(pages),
        }
    }
}

fn request(method: &'static str, path: &str, body: &Value) -> sequence::Request {
    let (path, body) = (path.to_owned(), body.clone());
    sequence::Request { method, path, content_type: "application/json", accept: "application/json", body }
}

fn note(found: &RefCell<Found>, what: &str, number: u64, example: &str) {
    let mut found = found.borrow_mut();
    let entry = found.entry(what.to_owned()).or_insert_with(|| (0, format!("sequence {number}: {example}")));
    entry.0 += 1;
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(300).collect()
}

/// Replays a sequence, and again when something differs: the API server sorts managers by the second
/// of their last write, and now and then a second passes on one side alone between two writes.
async fn replay_twice(
    client: &Client,
    number: u64,
    namespace: &str,
    shown: bool,
    found: &RefCell<Found>,
) -> anyhow::Result<usize> {
    let first = RefCell::default();
    let steps = replay(client, number, 0, namespace, shown, &first).await?;
    if !first.into_inner().is_empty() {
        replay(client, number, 1, namespace, shown, found).await?;
    }
    Ok(steps)
}

/// Replays one sequence; answers how many requests it had.
async fn replay(
    client: &Client,
    number: u64,
    attempt: u64,
    namespace: &str,
    shown: bool,
    found: &RefCell<Found>,
) -> anyhow::Result<usize> {
    let sequence = sequence(number, attempt, namespace);
    let server = ApiServer::new(Timestamp::now);
    let mut model = Side::new(Client::new(server.endpoint(), "default"));
    let mut real = Side::new(client.clone());
    let (mut model_names, mut real_names) = (Names::default(), Names::default());
    let mut watches = Vec::new();
    for step in &sequence.steps {
        let request = match step {
            Step::Watch(request) => {
                watches.push((request, model.watch(request).await?, real.watch(request).await?));
                continue;
            }
            Step::Ask(request) => Some((request.clone(), request.clone())),
            Step::HandOver { path } => model.hand_over(path).await?.zip(real.hand_over(path).await?),
        };
        let Some((to_model, to_real)) = request else { continue };
        let (one, other) = (model.ask(&to_model).await?, real.ask(&to_real).await?);
        let answer = |names: &mut Names, answer: &side::Answer| json!({"code": answer.code, "body": names.normal(&answer.body)});
        let (one, other) = (answer(&mut model_names, &one), answer(&mut real_names, &other));
        if shown {
            println!("{} {} {}\n{}", to_model.method, to_model.path, to_model.content_type, to_model.body);
            println!("  model {one}\n  real  {other}");
        }
        let kind = sequence.kind.name();
        let place = if to_model.path.contains("/status") {
            "/status"
        } else if to_model.path.contains("/scale") {
            "/scale"
        } else {
            ""
        };
        let word = format!(
            "{kind}{place} {} {}",
            to_model.method,
            to_model.content_type.split('/').next_back().unwrap_or_default()
        );
        let all = differences(&one, &other);
        // What follows a different decision says nothing new.
        let decided = all.iter().find(|(at, ..)| at == ".code");
        let told = decided.map_or(&all[..], std::slice::from_ref);
        for (at, one, other) in told {
            let words = all.iter().find(|(at, ..)| decided.is_some() && at.ends_with("message"));
            let words = words.map_or(String::new(), |(_, one, other)| format!("; {one} / {other}"));
            let example = format!(
                "model {} real {}{words} at {} {}",
                short(one),
                short(other),
                to_model.path,
                short(&to_model.body)
            );
            note(found, &format!("{word} {at}"), number, &example);
        }
        if !all.is_empty() {
            return Ok(sequence.steps.len());
        }
    }
    for (request, mut of_model, mut of_real) in watches {
        let (one, other) = (until_last(&mut of_model).await?, until_last(&mut of_real).await?);
        let normal = |names: &mut Names, events: Vec<Value>| -> Value {
            events.iter().map(|event| names.normal(event)).collect()
        };
        let (one, other) = (normal(&mut model_names, one), normal(&mut real_names, other));
        for (at, one, other) in differences(&one, &other) {
            note(
                found,
                &format!("{} watch {at}", sequence.kind.name()),
                number,
                &format!("model {} real {} at {}", short(&one), short(&other), request.path),
            );
        }
    }
    Ok(sequence.steps.len())
}

async fn make_namespace(client: &Client, name: &str) -> anyhow::Result<()> {
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    Api::all(client.clone()).create(&kube::api::PostParams::default(), &namespace).await?;
    Ok(())
}

/// The class whose volumes grow.
async fn make_storage_class(client: &Client) -> anyhow::Result<()> {
    let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "fast"}, "provisioner": "test.dev/none", "allowVolumeExpansion": true});
    let class: StorageClass = serde_json::from_value(class)?;
    let classes: Api<StorageClass> = Api::all(client.clone());
    classes.patch("fast", &PatchParams::apply("tests").force(), &Patch::Apply(&class)).await?;
    Ok(())
}

async fn install_definition(client: &Client) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = AuthService::crd();
    let params = PatchParams::apply("tests").force();
    definitions.patch(&definition.name_any(), &params, &Patch::Apply(&definition)).await?;
    while Api::<AuthService>::all(client.clone()).list(&ListParams::default()).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}
